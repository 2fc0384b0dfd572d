"""Loads a script and makes its manifest."""
