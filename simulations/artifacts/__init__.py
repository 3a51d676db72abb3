"""What is made of a trained model after a run: files for phones, and what they hear."""
