"""A trained model on its way to those who use it.

It is judged by the gate, published as a version, pinned to environments.
"""
