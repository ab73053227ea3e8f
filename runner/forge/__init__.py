"""Git, and the forge that the repository is at: its API, commit statuses, pull requests."""
