"""Sums of integers that show no summand."""
