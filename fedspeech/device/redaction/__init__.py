"""Redaction of transcripts on the phone; `redactor` is the place to begin."""
