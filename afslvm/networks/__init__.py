"""Linen building blocks without any probability in them."""
