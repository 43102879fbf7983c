"""Methods: control rows, classical baselines, the ACTalker adapter and the host for outside systems."""
