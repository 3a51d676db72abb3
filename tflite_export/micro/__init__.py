"""Files for microcontrollers: a stream for TensorFlow Lite Micro, and the C around it."""
