"""Configs on MuseData."""
