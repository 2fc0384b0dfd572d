"""How long a server-sent event travels."""

import re
import socket
import time

from bench.contenders.base import Can, Running
from bench.figures import differences, number, spread
from bench.pairs import Measure, Pairs, Sample
from bench.plan import Plan
from bench.results import DASH, Table

EVERY_MS = 2.0
EVENT = re.compile(rb"data: (\d+)\n\n")
PATIENCE_S = 30.0


class Sse(Measure):
    """An event has the moment at which it was made; both ends read the same monotonic clock."""

    name = "sse"
    needs = Can.SSE
    rounds = (5, 1)

    def sample(self, running: Running, plan: Plan) -> Sample:
        count = 200 if plan.quick else 500
        took_us: list[float] = []
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as asked:
            path = f"{running.path}/events?count={count}&every_ms={EVERY_MS}"
            asked.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            unread = b""
            while len(took_us) < count:
                piece = asked.recv(65536)
                now = time.monotonic_ns()
                if not piece:
                    raise ConnectionError(f"the stream ended after {len(took_us)} events")
                unread += piece
                end = 0
                for match in EVENT.finditer(unread):
                    took_us.append((now - int(match[1])) / 1000)
                    end = match.end()
                unread = unread[end:]
        took_us.sort()
        return {"p50_us": took_us[len(took_us) // 2], "p99_us": took_us[len(took_us) * 99 // 100]}

    def tables(self, pairs: Pairs) -> list[Table]:
        return [
            latency_table(
                pairs,
                "Server-sent events",
                f"Microseconds from an event's making to its arrival, one every {EVERY_MS:.0f} ms.",
            )
        ]


def latency_table(pairs: Pairs, title: str, told: str) -> Table:
    """Of a measure whose figures are `p50_us` and `p99_us`."""
    rows: list[list[str | tuple[str, str]]] = []
    for name in pairs.names():
        values = pairs.own(name, "p50_us")
        if not values:
            rows.append([name, (DASH, pairs.without[name]), DASH, DASH])
            continue
        compared = pairs.figure(name, "p50_us")
        rows.append(
            [
                name,
                str(spread(values)),
                number(spread(pairs.own(name, "p99_us")).median),
                f"**{differences(compared)}**" if compared else DASH,
            ]
        )
    columns = ["us", "p50", "p99", f"p50 above {pairs.reference}'s"]
    return Table(title=title, told=f"{told} Lower is better.", columns=columns, rows=rows)
