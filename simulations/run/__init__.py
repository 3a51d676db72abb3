"""One run: its rounds, how it is followed, how it is gone on with."""
