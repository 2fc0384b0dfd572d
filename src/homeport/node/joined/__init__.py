"""The agent of a machine that has joined another machine's homeport: a process of its own, `python -m homeport.node`."""
