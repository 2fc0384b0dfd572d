"""homeport: turn a Python function into a web endpoint, on machines you own."""
