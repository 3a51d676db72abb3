"""How much of a speaker is left in what was derived from speech, and how much of its use."""
