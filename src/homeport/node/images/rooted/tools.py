"""Programs of other projects that images with a root file system need; Debian's packages have them all.

`python -m homeport.node.images.rooted.tools` prints what is missing, for `homeport doctor`.
"""

import json
import os
import shutil

from homeport.contract.errors import ImageError

#: program -> Debian's package, what it is for
NEEDED = {
    "skopeo": ("skopeo", "fetches images from registries"),
    "unshare": ("util-linux", "keeps a build's mounts from this machine"),
    "mmdebstrap": ("mmdebstrap", "makes the Debian that `apt_install` and `run_commands` work in"),
}
#: Programs that an ordinary user needs in addition, for files of more than one owner.
OF_USERS = {"newuidmap": ("uidmap", "gives containers users of their own")}


def find(name: str) -> str:
    """Return the path of a program; `ImageError` with the line that installs it."""
    if path := shutil.which(name):
        return path
    package, purpose = (NEEDED | OF_USERS)[name]
    raise ImageError(
        f"`{name}`, which {purpose}, is not on this machine", hint=f"`{line([package])}`"
    )


def missing(*, ordinary: bool) -> dict[str, str]:
    """Return the missing programs: program -> package."""
    needed = NEEDED | (OF_USERS if ordinary else {})
    return {name: package for name, (package, _) in needed.items() if not shutil.which(name)}


def line(packages: list[str]) -> str:
    """Return the command that installs them."""
    return f"sudo apt-get install {' '.join(packages)}"


def _main() -> None:
    lacking = missing(ordinary=os.geteuid() != 0)
    answer = {"missing": list(lacking), "line": line([*lacking.values()])}
    print(json.dumps(answer))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    _main()
