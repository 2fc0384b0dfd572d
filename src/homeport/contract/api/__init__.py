"""The requests and answers of the control plane's API: the border between a client and the server.

A module for each noun, as in `control/api` and in `client`; a command imports the modules of its own nouns
alone, because each type takes a third of a millisecond to make. The handlers of `control/api` return these
types, `client` reads them back, and `--json` prints them as `codec.encode` writes them.
docs/reference/api.md is generated from them: the first line of a docstring says what an object is, and the
comment beside a field what the field means.

A field that is added later gets a default, so that a newer command can read an older server. Times are in
seconds since the epoch.
"""
