"""Configs on BAIR robot pushing at the AF paper's size."""
