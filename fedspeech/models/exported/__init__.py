"""Encoders that somebody else trained and exported: a torch.export program or a .tflite file."""
