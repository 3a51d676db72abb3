"""`fedspeech tune`: search clip norm and noise multiplier, and say how sure the answer is."""
