"""In the user's process: declares, never executes. The standard library alone."""
