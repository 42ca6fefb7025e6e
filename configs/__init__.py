"""Configs: `get_config()` returns a ConfigDict; the docstring says how to run it and what to expect."""
