"""Commands behind the Tasks of gitops/pipelines."""
