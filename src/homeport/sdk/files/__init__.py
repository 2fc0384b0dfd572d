"""Finds the files that are uploaded with a script."""
