"""Low-rank factors on phones side by side, in a loop over phones, and on Flower's engine."""
