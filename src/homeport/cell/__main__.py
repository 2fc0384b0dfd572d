"""`python -m homeport.cell ORDER`: run a program in a cell.

ORDER is JSON: `{"cell": …, "argv": […], "cwd": "/root", "private": true}`, the cell as `contract.codec` writes
it. With `private` false it is a base cell, which lasts until the last process in it has ended. A private cell
may have `"mounts": {"/data": ["/srv/data", "write"]}`, or with descriptors of opened trees `"trees": [[{"target",
"access"}, 5]]`, and `links` (cell/links.py); with `"cgroup": 6` it joins the cgroup whose `cgroup.procs` that is; with `"init": true` the
program is its pid 1. The exit code is the program's, or 125 if the cell cannot be made.
"""

import json
import os
import sys
from typing import Any

from homeport.cell import base, keeper, kernel, links, mounts, private, seal
from homeport.cell.description import Cell
from homeport.contract import codec

FAILED = 125
Pairs = list[tuple[mounts.Mount, int]]


def main() -> int:
    """Read the order and run it."""
    order = json.loads(sys.argv[1])
    cell: Cell = codec.decode(Cell, order["cell"])
    try:
        pairs = [*_mounts(order.get("mounts", {})), *_trees(order.get("trees", ()))]
        owned = [tree for mount, tree in pairs if mount.access is not mounts.Access.WRITE]
        return base.run(
            cell, lambda: _inside(cell, order, pairs), owned, linger=not _private(order)
        )
    except OSError as error:
        return _failed(error)


def _mounts(by_target: dict[str, tuple[str, str]]) -> Pairs:
    """Open the mounts that a container's node would send, in the host's view."""
    opener = keeper.Opener()
    try:
        return [
            (
                mounts.Mount(target, mounts.Access(access)),
                opener.open(source, writable=access == mounts.Access.WRITE.value),
            )
            for target, (source, access) in by_target.items()
        ]
    finally:
        opener.close()


def _trees(pairs: list[tuple[dict[str, str], int]]) -> Pairs:
    return [(codec.decode(mounts.Mount, fields), tree) for fields, tree in pairs]


def _inside(cell: Cell, order: dict[str, Any], pairs: Pairs) -> int:
    if not _private(order):
        return _execute(order)
    try:
        child = private.fork(cell, order.get("name", "1"))
        if child:
            kernel.close_from(3)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        mounts.place(pairs, last=links.of(order))
        if cgroup := order.get("cgroup"):
            os.write(cgroup, b"0")
            os.close(cgroup)
        if order.get("init"):
            _sealed(cell, order)
        code = base.reap(lambda: _sealed(cell, order), lambda: _seal_init(cell))
    except OSError as error:
        code = _failed(error)
    os._exit(code)


def _private(order: dict[str, Any]) -> bool:
    return bool(order.get("private", True))


def _seal_init(cell: Cell) -> None:
    kernel.close_from(3)  # the program has what it was given
    seal.seal_init(cell)


def _sealed(cell: Cell, order: dict[str, Any]) -> int:
    seal.seal(cell)
    return _execute(order)


def _execute(order: dict[str, Any]) -> int:
    os.chdir(order.get("cwd", "/root"))
    argv = order["argv"]
    os.execvp(argv[0], argv)  # noqa: S606


def _failed(error: OSError) -> int:
    print(f"the cell cannot be made: {error}", file=sys.stderr)  # noqa: T201
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
