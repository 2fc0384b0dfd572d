"""The same names as homeport's."""

from homeport import *
from homeport import __version__ as __version__
from homeport import exception as exception
