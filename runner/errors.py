"""Errors that the runner raises on purpose; a command prints them as `error: …` and exits 1.

A message names the place, the value found, the value expected, and the next step.
"""


class RunnerError(Exception):
    """Base of every error that the runner raises on purpose."""


class ConfigError(RunnerError):
    """params.yaml or conf/ violates the schema."""


class DatasetError(RunnerError):
    """Invalid dataset, label or picture."""


class StoreError(RunnerError):
    """The store is unreachable, or refuses."""


class ObjectError(StoreError):
    """An object is missing or invalid; a retry would not help."""


class MissingObjectError(ObjectError):
    """The object does not exist."""


class LabelStudioError(RunnerError):
    """Label Studio is unreachable, refuses, or its content fits no dataset."""


class NotSetUpError(LabelStudioError):
    """Label Studio has no project yet, or there are no classes to label."""


class GitError(RunnerError):
    """Git or the forge refuses."""

    is_final = False  # the same again would be refused again
    retry_after_s = 0.0  # that the forge asks to wait before the same again


class StageError(RunnerError):
    """A stage cannot run here, or its result is unreliable."""


class ClusterError(RunnerError):
    """The cluster is unreachable, or in the wrong state."""


class UnreachableError(ClusterError):
    """The cluster's API does not answer; a retry may help."""
