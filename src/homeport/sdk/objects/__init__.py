"""What a script names: apps, functions, images, secrets."""
