"""Decides how many containers each pool has and where they run, and carries it out."""
