"""For type checkers and editors. At run time sdk/alias.py imports the name."""

from homeport import Server as Server
