"""What takes several commands."""
