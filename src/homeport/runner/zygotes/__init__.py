"""Zygotes: processes that have imported modules and fork containers. The runner's side of a fork."""
