"""Configs on Piano-midi.de."""
