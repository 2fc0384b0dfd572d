"""`python -m homeport.cell`: run a program in a cell.

Standard input holds one line of JSON: `{"cell": …, "argv": […], "private": true, "mounts": {}}`, the
cell as `contract.codec` writes it. Its exit code is the program's; 125 if the cell cannot be made.
"""

import json
import os
import sys
from typing import Any

from homeport.cell import base, mounts, private, seal
from homeport.cell.description import Cell
from homeport.contract import codec

FAILED = 125


def main() -> int:
    """Read the order, and carry it out."""
    order = json.loads(sys.stdin.readline())
    cell: Cell = codec.decode(Cell, order["cell"])
    try:
        return base.run(cell, lambda: _inside(cell, order))
    except OSError as error:
        return _failed(error)


def _inside(cell: Cell, order: dict[str, Any]) -> int:
    if not order.get("private", True):
        return _execute(order["argv"])
    try:
        child = private.fork(cell, order.get("name", "1"))
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        mounts.finish()
        code = base.reap(lambda: _sealed(cell, order["argv"]))
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
