"""Voices without owners: recordings and embeddings that tell less of who speaks."""
