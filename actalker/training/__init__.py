"""Training of ACTalker: data, objective, loop, distribution; see docs/training.md."""
