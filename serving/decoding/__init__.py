"""Decoding of what strangers send: charged to one memory budget, and where a deadline can end it."""
