"""Stage train: a detector by the program that `model.trainer` names, and its checkpoints."""
