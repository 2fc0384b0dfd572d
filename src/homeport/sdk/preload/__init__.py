"""Modules that are loaded ahead, and how that stays invisible."""
