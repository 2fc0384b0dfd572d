"""Figures, with the machine and the date: `uv run python -m bench`. Never a timed test."""
