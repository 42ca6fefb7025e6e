"""Conditional likelihoods p(y_t | ...): Linen modules from features to a density of a frame."""
