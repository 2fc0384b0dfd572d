"""homeport beside what one would use instead: `uv run --group bench python -m bench`."""
