"""For type checkers and editors. At run time sdk/alias.py imports the name."""

from homeport import Function as Function
from homeport import FunctionCall as FunctionCall
