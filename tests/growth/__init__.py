"""The child process that asks a Ray cluster for machines."""
