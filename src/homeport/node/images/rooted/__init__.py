"""Images with a root file system of their own, in layers."""
