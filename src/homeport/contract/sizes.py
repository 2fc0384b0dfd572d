"""Sizes that several processes must agree on, in bytes."""

KIB = 1024
MIB = 1024**2
GIB = 1024**3

#: The largest body of a request, and the largest uploaded file.
MAX_BODY_BYTES = 4 * GIB
#: How many connections wait in the kernel until a container accepts them.
DOOR_BACKLOG = 1024
