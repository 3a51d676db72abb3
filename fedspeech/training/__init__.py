"""Adapter training on one phone and on many at once."""
