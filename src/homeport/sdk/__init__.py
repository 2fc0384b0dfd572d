"""The SDK: runs in the user's process, declares functions, never executes them. Standard library alone."""
