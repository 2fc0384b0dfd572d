"""Load by wrk: a fixed number of connections, each asking again as soon as it is answered."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
#: Where the handler is asked by POST.
POST = 'wrk.method = "POST"\nwrk.body = "{}"\nwrk.headers["Content-Type"] = "application/json"\n'


class NoWrk(Exception):
    """wrk is not on PATH; `apt-get install wrk` (or `brew install wrk`) brings it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    per_s: float
    p50_us: float
    p99_us: float
    errors: int  # answers that are no 2xx or 3xx, and connections that broke


def available() -> None:
    """Raise `NoWrk` where there is none."""
    if shutil.which("wrk") is None:
        raise NoWrk(NoWrk.__doc__)


def version() -> str:
    """What wrk says of itself."""
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"wrk (?:debian/)?(\S+)", told)
    return match[1] if match else "unknown"


def argv(
    url: str, *, connections: int, seconds: float, script: Path | None = None, host: str = ""
) -> list[str]:
    """The command: one thread, so that it takes one core at most."""
    # 256 connections are made at once; whole seconds are all that wrk takes
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    words += ["-s", str(script)] if script else []
    words += ["-H", f"Host: {host}"] if host else []
    return [*words, url]


def run(words: list[str]) -> Load:
    """Run it; it is killed when it takes much longer than it was told."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return parse(done.stdout)


def parse(text: str) -> Load:
    """What wrk prints with `--latency`. `ValueError` where it answered nothing."""

    def found(pattern: str) -> str:
        match = re.search(pattern, text)
        if match is None:
            raise ValueError(f"no {pattern!r} in what wrk printed:\n{text}")
        return match[1]

    requests = int(found(r"(\d+) requests in"))
    if not requests:
        raise ValueError(f"no request was answered:\n{text}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    return Load(
        requests=requests,
        per_s=float(found(r"Requests/sec:\s+([\d.]+)")),
        p50_us=_us(found(r"50%\s+([\d.]+[a-z]+)")),
        p99_us=_us(found(r"99%\s+([\d.]+[a-z]+)")),
        errors=(int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )


def _us(told: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", told)
    if match is None or match[2] not in UNITS_US:
        raise ValueError(f"not a duration: {told!r}")
    return float(match[1]) * UNITS_US[match[2]]
