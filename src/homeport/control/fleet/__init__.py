"""How many containers there are, and where."""
