"""For type checkers and editors. At run time sdk/alias.py imports the name."""

from homeport import Cls as Cls
from homeport import parameter as parameter
