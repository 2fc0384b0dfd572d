"""The data that processes exchange: frozen dataclasses, the standard library alone, no I/O.

The user's interpreter imports it too, so the syntax is Python 3.10's.
"""
