"""The `bench` command: one module per verb, nothing heavy imported at start."""
