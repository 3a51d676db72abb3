"""Ratios against baselines measured in the same run; imports the rest, nothing imports it."""
