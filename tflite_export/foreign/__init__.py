"""Files for phones of bases whose encoder comes from elsewhere, without TensorFlow."""
