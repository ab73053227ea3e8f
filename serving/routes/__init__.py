"""Routes of the server, a module per group."""
