"""Datasets on disk in the layouts that people use, and as immutable versions in the store."""
