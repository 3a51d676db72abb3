"""A run folder as one offline page."""
