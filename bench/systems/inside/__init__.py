"""What runs inside the systems' own environments: Python 3.8 or newer, nothing but the standard library needed.

The folder is put on `PYTHONPATH` of a system's processes; nothing of the harness can be imported there.
"""
