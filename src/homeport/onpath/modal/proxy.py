"""For type checkers and editors; at run time it is sdk/alias.py that finds it."""

from homeport.sdk.objects.pending import *
