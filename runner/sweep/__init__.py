"""Sweeps: trials of several values, in the cluster or here, and the table of what came out."""
