"""Configs on KTH Actions at the AF paper's size."""
