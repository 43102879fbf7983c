"""ACTalker: audio-visual controlled video diffusion with masked selective state spaces.

Knows nothing of the benchmark harness around it; see `actalker.pipeline` for inference and
`python -m actalker --help` for the command line.
"""
