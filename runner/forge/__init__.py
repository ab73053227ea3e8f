"""Git and the forge (GitHub or compatible): its API, commit statuses, pull requests."""
