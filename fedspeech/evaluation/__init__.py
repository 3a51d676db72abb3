"""Metrics over scores, by segment; NumPy only."""
