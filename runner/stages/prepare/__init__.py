"""Stage prepare: check and convert pictures and labels, and report the findings."""
