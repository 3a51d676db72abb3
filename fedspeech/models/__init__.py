"""Base networks; adapters stand after them."""
