"""Breaks random lines of homeport, one at a time, and looks whether a test fails."""
