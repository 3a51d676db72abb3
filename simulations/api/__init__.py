"""What `import fedspeech as fs` offers: what every command does, as functions of Python."""
