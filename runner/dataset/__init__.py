"""Datasets as people have them, and as immutable versions in the store."""
