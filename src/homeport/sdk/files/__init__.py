"""Which files go with a script."""
