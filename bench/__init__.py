"""The benchmark harness: plan, generate, score and report talking-head videos.

Importing this package is cheap; everything heavy (torch, ray, pandas, PyAV) is imported where it is used.
"""

__version__ = "0.1.0"
