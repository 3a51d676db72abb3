"""Adapters on their way to phones: files, signed bundles, what a phone keeps, the registry."""
