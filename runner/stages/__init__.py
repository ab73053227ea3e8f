"""The stages of dvc.yaml: a module or a folder for each, and beside them what several share."""
