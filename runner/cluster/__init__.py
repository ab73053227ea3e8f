"""The cluster: its facts, Argo CD, the first day, and the runs of the retrain pipeline.

From a workstation all of it goes through the user's own oc or kubectl; in a Pod api.py asks with its ServiceAccount.
"""
