"""What phones learn to recognize; nothing above or beside these files asks which task it is."""
