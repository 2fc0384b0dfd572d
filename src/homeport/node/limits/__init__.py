"""What a container may use, and who keeps it to that."""
