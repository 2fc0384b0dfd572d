"""For type checkers and editors; at run time it is sdk/alias.py that finds it."""

from homeport import Function as Function
from homeport import FunctionCall as FunctionCall
