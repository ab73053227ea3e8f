"""Objects by URI, in a folder or on an S3 endpoint: the endpoint, reading and writing, manifests, models."""
