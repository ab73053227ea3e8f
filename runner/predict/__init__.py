"""`predict`: the detections of a model in every picture of a bucket's prefix, or of a folder.

scoring.py    one picture, in any process     source_pictures.py   list and read the pictures
predict.py    all of them, in parts that survive a kill     score_files.py   .jsonl, .csv, .parquet
drawn.py      a copy of each with its boxes
doubtful.py   the doubtful ones become tasks in Label Studio, the most useful first
"""
