"""What files of a run show a reviewer, line by line, and papers filled in from that."""
