"""The pipeline: the stages that DVC runs and the commands that people and the cluster run."""
