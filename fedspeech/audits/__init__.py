"""Attacks on runs, from what one observer saw, and what they prove of what was promised."""
