"""Links in an image's root file system to files that were mounted elsewhere, in a container's private layer.

A library needs a link in the directory where the image's loader looks by default. A cache of the loader (ld.so.cache) would
have to be made again by the image's own `ldconfig` at each start, and a variable (LD_LIBRARY_PATH) is lost
where a program starts another one without its environment.
"""

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from homeport.cell import mounts

#: Kinds of links: libraries and programs by their names, others by their paths.
LIBRARIES, PROGRAMS, PATHS = "libraries", "programs", "paths"
#: The directory with the C library is one of those that its loader looks in.
LIBC = "libc.so.6"
FOLDERS = (
    *(f"{top}/{os.uname().machine}-linux-gnu" for top in ("/usr/lib", "/lib")),
    *("/usr/lib64", "/lib64", "/usr/lib", "/lib"),
)


def of(request: Mapping[str, Any]) -> "partial[None] | None":
    """Return the function that makes the links of a request, for `mounts.place`; None if it has no links."""
    return partial(lay, request["links"]) if request.get("links") else None


def lay(links_by_kind: Mapping[str, Mapping[str, str]], storage: str) -> None:
    """Make the links in the root that this process sees, in place of what the image has there.

    `links_by_kind` has for each kind a name -> target. A directory of the image stays. A root
    without the GNU C library gets no libraries.
    """
    links = {f"/usr/bin/{name}": to for name, to in links_by_kind.get(PROGRAMS, {}).items()}
    if folder := next((f for f in FOLDERS if os.path.exists(f"{f}/{LIBC}")), None):
        links |= {f"{folder}/{name}": to for name, to in links_by_kind.get(LIBRARIES, {}).items()}
    links |= links_by_kind.get(PATHS, {})
    for position, folder in enumerate({os.path.dirname(path): None for path in links}):
        mounts.make_writable(folder, f"links{position}", storage)
    for path, to in links.items():
        with contextlib.suppress(IsADirectoryError, PermissionError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.symlink(to, path)
