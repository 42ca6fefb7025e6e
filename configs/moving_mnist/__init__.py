"""Configs on Moving MNIST at the AF paper's size."""
