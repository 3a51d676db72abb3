"""Who speaks what, and on which phone."""
