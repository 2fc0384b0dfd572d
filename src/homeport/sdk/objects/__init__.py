"""The objects that a script declares: apps, functions, images, secrets."""
