"""What a container's packages and files come from."""
