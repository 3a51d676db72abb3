"""The same task on Flower's simulation engine, on pfl and on fedspeech."""
