"""Captures: uncertain answers and reports with their pictures, written to the store beside the answers."""
