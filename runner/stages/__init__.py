"""Stages of dvc.yaml: a module or a folder for each, and the code that several share."""
