"""Phones as devices: when they are there, how fast they are."""
