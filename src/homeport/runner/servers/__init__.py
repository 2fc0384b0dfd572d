"""The app servers in a container, and the modules that each request passes."""
