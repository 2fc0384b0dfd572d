"""What a cell costs: `uv run python -m tests.soak.cells [times] [module …]`, as root or as an ordinary user.

Three times in milliseconds: a base cell (once for a set of packages), a private cell (ahead of time, in a
process that has imported the modules) and a birth (the mounts and the seal, when a container starts);
and what a private cell holds in memory before any code of the user's runs.
"""

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from homeport.cell import base, host, identity, kernel, mounts, private, seal
from homeport.cell.description import Cell, Network, range_of_ids

SOURCE = Path(__file__).parents[2] / "src"
FIRST_ID = 231072


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    modules = sys.argv[2:]
    ids = range_of_ids(FIRST_ID) if os.getuid() == 0 else identity.subordinate()
    print(
        f"uid {os.getuid()}, {times} times, imported: {' '.join(modules) or 'nothing'}; median, p90"
    )
    print(f"{'':28}{'base':>14}{'private':>14}{'birth':>14}{'its memory':>14}{'end':>14}")
    for network in (Network.HOST, Network.NONE):
        for overlay in (True, False):
            name = f"network {network.value}, {'overlay' if overlay else 'memory'}"
            changes = {"network": network, "overlay": overlay, "ids": ids}
            rows = _measured(changes, modules, times)
            print(f"{name:28}" + "".join(f"{_cell(rows, key):>14}" for key in rows))


def _measured(changes: dict, modules: list[str], times: int) -> dict[str, list[float]]:
    paths = [str(SOURCE / "homeport"), sys.prefix, *host.interpreter(sys.executable)]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as storage:
        cell = dataclasses.replace(host.cell(paths), storage=storage, **changes)
        rows: dict[str, list[float]] = {}
        for number in range(5):
            begun = time.monotonic()
            told = _in_a_child(cell, modules, times if number == 0 else 0, begun)
            for key, values in told.items():
                rows.setdefault(key, []).extend(values)
        shutil.rmtree(storage, ignore_errors=True)
        os.makedirs(storage, exist_ok=True)
    return rows


def _in_a_child(cell: Cell, modules: list[str], times: int, begun: float) -> dict[str, list[float]]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(base.run(cell, lambda: _zygote(cell, modules, times, begun, writer)))
    os.close(writer)
    with open(reader) as file:
        told = file.read()
    os.waitpid(child, 0)
    return json.loads(told)


def _zygote(cell: Cell, modules: list[str], times: int, begun: float, writer: int) -> int:
    rows: dict[str, list[float]] = {"base": [_ms(begun)]}
    for module in modules:
        importlib.import_module(module)
    gc.disable()
    gc.freeze()
    os.makedirs("/.cell/up/source", exist_ok=True)
    for number in range(times):
        for key, value in _container(cell, str(number)).items():
            rows.setdefault(key, []).append(value)
    os.write(writer, json.dumps(rows).encode())
    return 0


def _container(cell: Cell, name: str) -> dict[str, float]:
    reader, writer = os.pipe()
    go, gone = os.pipe()
    tree = kernel.open_tree("/.cell/up/source")
    begun = time.monotonic()
    child = private.fork(cell, name)
    if child == 0:
        told = {"private": _ms(begun)}
        os.write(writer, b".")
        os.read(go, 1)
        begun = time.monotonic()
        mounts.place([(mounts.Mount("/root", mounts.Access.PRIVATE), tree)])
        seal.seal(cell)
        told["birth"] = _ms(begun)
        told["memory"] = _private_mib()
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(tree)
    os.read(reader, 1)
    os.write(gone, b".")
    told = json.loads(os.read(reader, 1000))
    begun = time.monotonic()
    os.waitpid(child, 0)
    private.remove(name)
    told["end"] = _ms(begun)
    for end in (reader, writer, go, gone):
        os.close(end)
    return told


def _private_mib() -> float:
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kib = [
        int(row.split()[1]) for row in rows if row.startswith(("Private_Clean", "Private_Dirty"))
    ]
    return sum(kib) / 1024


def _cell(rows: dict[str, list[float]], key: str) -> str:
    values = sorted(rows[key])
    unit = "MiB" if key == "memory" else ""
    return f"{statistics.median(values):.1f} {values[int(len(values) * 0.9)]:.1f}{unit}"


def _ms(begun: float) -> float:
    return (time.monotonic() - begun) * 1000


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
