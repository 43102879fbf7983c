"""The embedded ACTalker: the same model, small enough to ship, for the synthetic talking-face world.

`load()` returns it ready to use; `actalker/embedded/README.md` is its model card.
"""
