"""What was imported."""

import sys


def third_party() -> tuple[str, ...]:
    """The installed modules that are loaded, in order."""
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if ("site-packages" in file or "dist-packages" in file) and name.partition(".")[
            0
        ] != "homeport":
            found.append(name)
    return tuple(found)
