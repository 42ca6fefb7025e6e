"""Configs on TIMIT at the AVF paper's size."""
