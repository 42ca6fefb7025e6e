"""Configs on spoken digits, for two cores."""
