"""`python -m homeport.cell ORDER`: run a program in a cell.

ORDER is JSON: `{"cell": …, "argv": […], "private": true, "mounts": {"/data": ["/srv/data", "write"]}}`, the
cell as `contract.codec` writes it. The exit code is the program's, or 125 if the cell cannot be made.
"""

import json
import os
import sys
from typing import Any

from homeport.cell import base, keeper, mounts, private, seal
from homeport.cell.description import Cell
from homeport.contract import codec

FAILED = 125
Pairs = list[tuple[mounts.Mount, int]]


def main() -> int:
    """Read the order, and carry it out."""
    order = json.loads(sys.argv[1])
    cell: Cell = codec.decode(Cell, order["cell"])
    try:
        pairs = _mounts(order.get("mounts", {}))
        return base.run(
            cell,
            lambda: _inside(cell, order, pairs),
            [tree for mount, tree in pairs if mount.access is not mounts.Access.WRITE],
        )
    except OSError as error:
        return _failed(error)


def _mounts(wanted: dict[str, tuple[str, str]]) -> Pairs:
    """What a container's node would send; opened in the host's view."""
    opener = keeper.Opener()
    try:
        return [
            (
                mounts.Mount(target, mounts.Access(access)),
                opener.open(source, writable=access == mounts.Access.WRITE.value),
            )
            for target, (source, access) in wanted.items()
        ]
    finally:
        opener.close()


def _inside(cell: Cell, order: dict[str, Any], pairs: Pairs) -> int:
    if not order.get("private", True):
        return _execute(order["argv"])
    try:
        child = private.fork(cell, order.get("name", "1"))
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        mounts.place(pairs)
        code = base.reap(lambda: _sealed(cell, order["argv"]), lambda: seal.seal_init(cell))
    except OSError as error:
        code = _failed(error)
    os._exit(code)


def _sealed(cell: Cell, argv: list[str]) -> int:
    seal.seal(cell)
    return _execute(argv)


def _execute(argv: list[str]) -> int:
    os.chdir("/root")
    os.execvp(argv[0], argv)  # noqa: S606


def _failed(error: OSError) -> int:
    print(f"the cell cannot be made: {error}", file=sys.stderr)  # noqa: T201
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
