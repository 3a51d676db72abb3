"""Corpora of recordings and of synthetic speech, and the division of their speakers into phones."""
