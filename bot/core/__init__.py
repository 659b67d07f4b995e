"""What every room shares; imports nothing of ours but itself."""
