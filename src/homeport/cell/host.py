"""Describe a host cell: the machine's own /usr and the directories of an interpreter, and no more.

Nothing is downloaded or copied for it, so it costs an image without file-system steps nothing.
"""

import os
from collections.abc import Iterable

from homeport.cell.description import ETC, Bind, Cell

#: Since the merge of /usr these are links on most systems; elsewhere they are shown as they are.
TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def cell(paths: Iterable[str], *, binds: Iterable[Bind] = ()) -> Cell:
    """Return a cell with /usr and `paths` read-only where they are, and `binds`; use
    `dataclasses.replace` to change more.

    Name every interpreter in `paths` with all that it consists of: a virtual environment, and the
    installation that it was made from.
    """
    binds_by_place = {"/usr": Bind("/usr")}
    links = []
    for name in TOP:
        if os.path.islink(f"/{name}"):
            links.append((f"/{name}", os.readlink(f"/{name}")))
        elif os.path.isdir(f"/{name}"):
            binds_by_place[f"/{name}"] = Bind(f"/{name}")
    for path in paths:
        binds_by_place[path] = Bind(path)
    for bind in binds:
        binds_by_place[bind.place] = bind
    return Cell(binds=tuple(binds_by_place.values()), links=tuple(links), etc=ETC)


def interpreter(python: str) -> list[str]:
    """Return the directories of a Python: its prefix, and the prefix of the interpreter that its links name."""
    paths = [python]
    while os.path.islink(paths[-1]):
        paths.append(os.path.join(os.path.dirname(paths[-1]), os.readlink(paths[-1])))
    prefixes = [os.path.dirname(os.path.dirname(os.path.normpath(path))) for path in paths]
    return [prefix for prefix in dict.fromkeys(prefixes) if prefix not in ("/", "/usr")]
