"""What crosses a process boundary: frozen dataclasses, the standard library alone, no I/O.

Imported by the user's interpreter too, so the syntax is Python 3.10's.
"""
