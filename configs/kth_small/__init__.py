"""Configs on KTH actions, small enough for two cores."""
