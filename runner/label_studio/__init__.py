"""Label Studio in the loop: pictures go in as tasks, finished annotations come out as a version of the dataset.

    setup.py    labels setup     the project as Git describes it       interface.py    its labelling configuration
    intake.py   labels import    pictures and datasets become tasks    predictor.py    a model draws on them first
    pull.py     labels pull      annotations become a version          annotations.py, identity.py, union.py, current.py
    push.py     captures push    what the server kept becomes tasks    captures.py     as it lies in the store

    server.py  project.py  labelling_tasks.py   what is in Label Studio     regions.py            boxes as it has them
    shelf.py                                    where the pictures are      browser_pictures.py   what browsers show

The words here are Label Studio's: a task is a picture to label, an annotation is what a person drew on it, a prediction
what a model did, a region one box of either.
"""
