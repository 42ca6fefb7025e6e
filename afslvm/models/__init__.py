"""Sequence models: one file, one graphical model; `base.py` is the contract they all keep."""
