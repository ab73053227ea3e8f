"""Cluster commands: facts in cluster.env, Argo CD, the first day, PipelineRuns of the retrain.

A workstation uses the user's own oc or kubectl; a Pod calls the API with its ServiceAccount (api.py).
"""
