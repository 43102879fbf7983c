"""The synthetic talking-face world: renderer, speech, split, embedded extractors and their training."""
