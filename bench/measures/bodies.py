"""Large bodies: how fast they go up and down, and what memory they take on the way."""

import json
import re
import socket
import time

from bench import processes
from bench.contenders.base import Can, Running
from bench.figures import number, ratios, spread
from bench.pairs import Measure, Pairs, Sample
from bench.plan import Plan
from bench.results import DASH, Table

PIECE = bytes(2**20)
PATIENCE_S = 60.0
FIGURES = ("up", "down")


class Bodies(Measure):
    """1 GiB each way, by a plain socket."""

    name = "bodies"
    needs = Can.BODY
    rounds = (3, 1)

    def sample(self, running: Running, plan: Plan) -> Sample:
        mib = 64 if plan.quick else 1024
        found: Sample = {}
        for name, carry in (("up", _upload), ("down", _download)):
            peak = processes.Peak(running.roots)
            began = time.perf_counter()
            carry(running, mib)
            found[f"{name}_mb_s"] = mib * len(PIECE) / 1e6 / (time.perf_counter() - began)
            found[f"{name}_mib"] = peak.mib()
        return found

    def tables(self, pairs: Pairs) -> list[Table]:
        rows: list[list[str | tuple[str, str]]] = []
        for name in pairs.names():
            cells: list[str | tuple[str, str]] = [name]
            for way in FIGURES:
                values = pairs.own(name, f"{way}_mb_s")
                if not values:
                    cells += [(DASH, pairs.without[name]), DASH, DASH]
                    continue
                compared = pairs.figure(name, f"{way}_mb_s")
                cells.append(str(spread(values)))
                cells.append(f"**{ratios(compared)}**" if compared else "1")
                cells.append(number(max(pairs.own(name, f"{way}_mib"))))
            rows.append(cells)
        columns = ["1 GiB"]
        for way in FIGURES:
            columns += [f"{way}, MB/s", f"/ {pairs.reference}", "memory, MiB"]
        return [
            Table(
                title="Large bodies",
                told="One body at a time. Memory is how much more the contender's processes held "
                "at their highest than before, the most of all rounds.",
                columns=columns,
                rows=rows,
            )
        ]


def _upload(running: Running, mib: int) -> None:
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as connection:
        size = mib * len(PIECE)
        head = f"POST {running.path}/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(mib):
            connection.sendall(PIECE)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    body = re.search(rb"\{.*\}", answer)
    if body is None or json.loads(body[0]) != {"bytes": size}:
        raise ConnectionError(f"the body did not arrive: {answer[:200]!r}")


def _download(running: Running, mib: int) -> None:
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as connection:
        head = f"GET {running.path}/download?mib={mib} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        room = bytearray(2**20)
        count = 0
        while got := connection.recv_into(room):
            count += got
    if count < mib * len(PIECE):
        raise ConnectionError(f"{count} bytes of {mib} MiB arrived")
