"""Commands behind the Tasks of gitops/pipelines.

Tasks share no disk: data pass through DVC's remote and its run cache, the few files outside of DVC through `relay`.
"""
