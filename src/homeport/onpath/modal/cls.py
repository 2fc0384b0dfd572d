"""For type checkers and editors; at run time it is sdk/alias.py that finds it."""

from homeport import Cls as Cls
from homeport import parameter as parameter
