"""What rounds ask of phones: one file per query, behind one interface."""
