"""Storage by URI, in a folder or on an S3 endpoint: endpoint, objects, manifests, models."""
