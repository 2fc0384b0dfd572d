"""Spawned calls: saves them, sends them to containers, and keeps their outcomes."""
