"""Stands for a module of the original that homeport has no counterpart of yet."""

from homeport.sdk.pending import __getattr__ as __getattr__
