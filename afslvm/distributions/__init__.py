"""Densities as plain values: functions of arrays, without parameters of their own."""
