"""Metrics of real video: one module per family; `networks/` has the reference networks behind them.

Importing a family module must stay cheap: torch and friends are imported inside the functions that use them,
so that listing metrics does not load a deep-learning framework.
"""
