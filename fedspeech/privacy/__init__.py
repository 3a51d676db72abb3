"""From one phone's delta to an epsilon: one plan owns every number that must agree."""
