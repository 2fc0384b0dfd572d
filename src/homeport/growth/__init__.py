"""A child process of the control plane that asks a Ray cluster for machines, and has agents started on them."""
