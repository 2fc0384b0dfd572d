"""The sandbox of a container: its own file system, processes, users and network.

Nothing here knows of apps, zygotes or nodes. `description` says what a cell consists of, `base` and
`private` build it ahead of time, `mounts` and `seal` finish it when a container starts in it, and
`kernel` has the system calls. Standard library only: it runs inside the user's interpreter.
"""
