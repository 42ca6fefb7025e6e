"""Configs on the embedded data set."""
