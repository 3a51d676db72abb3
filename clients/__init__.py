"""The phone's side of the Flower app."""
