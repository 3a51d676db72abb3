"""What the server does with a decoded mean."""
