"""The objects of a run, made from a scenario."""
