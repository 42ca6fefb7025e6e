"""Configs on the JSB chorales."""
