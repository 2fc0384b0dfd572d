"""Processes from which containers are forked."""
