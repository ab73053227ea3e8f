"""Everything the runner raises on purpose; a command prints it as `error: …` and exits 1.

    RunnerError
    ├── ConfigError      params.yaml or conf/ holds something the schema refuses
    ├── DatasetError     a dataset, a label or a picture is not what it must be
    ├── StoreError       the store cannot be reached, or refuses
    │   └── ObjectError  an object is missing, or not what it must be
    ├── GitError         Git or the server of pull requests refuses
    ├── ClusterError     the cluster cannot be reached, or is not as it must be
    │   └── UnreachableError  its API does not answer, or not now
    ├── LabelStudioError Label Studio cannot be reached, refuses, or holds what cannot become a dataset
    │   └── NotSetUpError nobody has made the project yet, or said what is to be labelled
    └── StageError       a stage cannot run or its result cannot be trusted

A message says where, what is wrong, what was expected and what to do.
"""


class RunnerError(Exception):
    """Base of every error the runner raises on purpose."""


class ConfigError(RunnerError):
    """params.yaml or conf/ holds something the schema refuses."""


class DatasetError(RunnerError):
    """A dataset, a label or a picture is not what it must be."""


class StoreError(RunnerError):
    """The store cannot be reached, or refuses."""


class ObjectError(StoreError):
    """An object is missing, or not what it must be: asking again would not help."""


class MissingObjectError(ObjectError):
    """There is no such object."""


class LabelStudioError(RunnerError):
    """Label Studio cannot be reached, refuses, or holds what cannot become a dataset."""


class NotSetUpError(LabelStudioError):
    """Nobody has made the project in Label Studio yet, or said what is to be labelled."""


class GitError(RunnerError):
    """Git or the server of pull requests refuses."""


class StageError(RunnerError):
    """A stage cannot run here, or its result cannot be trusted."""


class ClusterError(RunnerError):
    """The cluster cannot be reached, or is not as it must be."""


class UnreachableError(ClusterError):
    """The cluster's API does not answer, or not now: asking again later may help."""
