"""What a worker does, one module per kind of job; each is found by the name of its kind."""
