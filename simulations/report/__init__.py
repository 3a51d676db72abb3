"""What is told of a run: its page, its findings in words, and two runs side by side."""
