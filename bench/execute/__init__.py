"""Running jobs: a pure scheduler and two executors (inline, Ray) that write identical records."""
