"""Configs on stochastic Moving MNIST."""
