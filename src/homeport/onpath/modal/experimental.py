"""For type checkers and editors; at run time it is sdk/alias.py that finds it."""

from homeport.sdk.experimental import __getattr__ as __getattr__
from homeport.sdk.experimental import http_server as http_server
