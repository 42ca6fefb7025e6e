"""Autoregressive flows across time, sequential latent variable models, variational filtering."""

__version__ = '0.1.0'
