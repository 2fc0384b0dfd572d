"""For type checkers and editors; at run time it is sdk/alias.py that finds it."""

from homeport import enable_output as enable_output
