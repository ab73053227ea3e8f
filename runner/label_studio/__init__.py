"""Label Studio: pictures become tasks, finished annotations become a version of the dataset.

    setup.py             labels setup     settings from Git, and the labels that annotators use
    import_pictures.py   labels import    pictures become tasks         labelling_tasks.py    list and create tasks
    push.py              captures push    captures become tasks         captures.py           captures in the store
                                                                        label_next.py         which pictures first
                                                                        reported.py           feedback on existing tasks
                                                                        second_annotations.py two people, one picture
                                                                        feedback_states.py    what became of feedback
    pull.py              labels pull      annotations become a version  annotations.py, merge.py
                                                                        label_changes.py      the tasks that changed
                                                                        task_states.py        the tasks of a version
    review.py            labels suspects  suspicious pictures become tasks (the list: runner/suspects)
    flywheel.py          flywheel         report of all rounds          next_step.py          the step that is missing
                                                                        rescored.py           models on one test part
                                                                        agreement.py          what two people drew

    server.py   API client of Label Studio       task_images.py        storage of the tasks' pictures
    regions.py  boxes in Label Studio's form     labelled_dataset.py   pictures with digests and boxes

Words are Label Studio's: a task is a picture to label, an annotation is a person's drawing on it, a prediction a
model's, a region one box of either.
"""
