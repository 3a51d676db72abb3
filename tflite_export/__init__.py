"""From a trained adapter to a file that a phone runs."""
