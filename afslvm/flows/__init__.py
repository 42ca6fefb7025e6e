"""Linen conditioners: networks that produce the parameters of `transforms/`."""
