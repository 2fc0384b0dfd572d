"""`python -m homeport.node.images.shell ENVIRONMENTS [IMAGE] [WORD…]`: a shell in an image, for `homeport image shell`.

It runs in a sandbox on the image's layers; the files that it writes are removed when it ends. Without IMAGE it uses
the newest one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from homeport import removing
from homeport.contract import codec
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME
from homeport.node.images.owned import hands
from homeport.node.images.rooted import site
from homeport.node.images.rooted.operations import Config
from homeport.node.images.store import Record, Store

BASH = "command -v bash >/dev/null && exec bash -i || exec sh -i"
KEPT = ("TERM", "COLORTERM", "LANG", "NO_COLOR")


def chosen(layer_store: Store, key: str) -> Record:
    """Return the record of an image with a root file system, by the beginning of its key; `ImageError` if none fits."""
    candidates = [
        (record["created_at"], record)
        for directory, record in layer_store.records()
        if directory.name.startswith(key) and "lowers" in record
    ]
    if not candidates:
        subject = f"no image `{key}` has" if key else "no image has"
        raise ImageError(
            f"{subject} a root file system of its own",
            hint="`homeport image list` lists the images",
        )
    return max(candidates, key=lambda candidate: float(candidate[0]))[1]


def run(root: Path, key: str, words: list[str]) -> int:
    """Run the shell; return its exit code."""
    layer_store = Store(root)
    record = chosen(layer_store, key)
    config = codec.decode(Config, record["config"])
    storage = Path(tempfile.mkdtemp(prefix="shell-", dir=root.parent))
    try:
        cell = site.cell_of(layer_store, record["lowers"], storage)
        order = {
            "do": "run",
            "cell": codec.encode(cell),
            "commands": [["", words or ["/bin/sh", "-c", BASH]]],
            "cwd": config.workdir or HOME,
            "environ": {
                "HOME": HOME,
                **{name: os.environ[name] for name in KEPT if name in os.environ},
                **config.environ,
            },
        }
        return subprocess.run(hands.words(order), check=False, cwd="/").returncode
    finally:
        hands.empty(storage)
        removing.discard(str(storage))


def main() -> int:
    """Run the shell; print a failure as the command line does, with exit code 1."""
    root, *arguments = sys.argv[1:]
    try:
        return run(Path(root), arguments[0] if arguments else "", arguments[1:])
    except ImageError as failure:
        print(f"error: {failure.message}\n\nhint: {failure.hint}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
