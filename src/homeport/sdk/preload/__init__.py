"""Loads modules ahead of time, so that a script sees no difference."""
