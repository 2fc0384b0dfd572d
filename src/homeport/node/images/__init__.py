"""Builds images: the packages and files of containers, layer by layer."""
