"""Configs: `get_config()` returns a ConfigDict; docstrings say how to run them, what to expect."""
