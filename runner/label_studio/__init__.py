"""Label Studio in the loop: pictures become tasks, finished annotations become a version of the dataset.

    setup.py    labels setup     project settings from Git             interface.py    labelling configuration
    intake.py   labels import    pictures and datasets become tasks    predictor.py    a model's predictions on them
    pull.py     labels pull      annotations become a version          annotations.py, identity.py, union.py, current.py
    push.py     captures push    the server's captures become tasks    captures.py     captures in the store

    server.py  project.py  labelling_tasks.py   API client of Label Studio  regions.py            boxes as regions
    shelf.py                                    storage of the pictures     browser_pictures.py   formats, EXIF

Words are Label Studio's: a task is a picture to label, an annotation is a person's drawing on it, a prediction a
model's, a region one box of either.
"""
