"""Containers from their start to their end."""
