"""What follows a run and is told its figures: loggers, and callbacks of a program's own."""
