"""Configs on Nottingham."""
