"""Files and metadata that tools of others read."""
