"""Measuring speed and memory, on generated frames."""
