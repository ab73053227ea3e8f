"""The cluster from a workstation.

Its facts, Argo CD, the first day; all of it through the user's own oc or kubectl.
"""
