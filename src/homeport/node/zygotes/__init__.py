"""Starts zygotes, the processes from which containers are forked, and chooses one for each container."""
