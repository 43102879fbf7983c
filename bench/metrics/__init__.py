"""Metrics: one module per family; `base` has the interfaces, `networks/` the reference networks.

Importing a family module must stay cheap: torch and friends are imported inside the functions that use them,
so that listing metrics does not load a deep-learning framework.
"""
