"""A commit retrains: the commands behind the Tasks of gitops/pipelines.

Tasks share no disk. What one made, the next takes from the store: data through DVC's remote and its run cache, and
the few files that are not DVC's through `relay`.
"""
