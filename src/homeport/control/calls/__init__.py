"""Calls of functions without a URL: nothing yet."""
