"""What a phone trains: few parameters after a frozen trunk."""
