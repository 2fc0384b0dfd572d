"""What Ray runs on its machines for homeport: the start of an agent, and what holds a machine that has containers.

The agent is a process of its own from then on: neither the end of Ray's worker nor that of its raylet ends it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from homeport.contract.joining import JOIN, TOKEN


class Hold:
    """Uses a little of a machine, so that Ray's autoscaler does not remove it for being idle."""


def begin(name: str, address: str, token: str) -> None:
    """Start the agent of this machine; one that runs already has the lock of its home, and stays."""
    home = home_of(name, os.environ)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "agent.log").open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-P", "-m", "homeport.node"],
            env=environ_of(home, name, address, token, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def home_of(name: str, environ: Mapping[str, str]) -> Path:
    """Return the home of the agent with this name: below the machine's, which may be for something else.

    >>> home_of("ray-1", {"HOMEPORT_HOME": "/h"})
    PosixPath('/h/nodes/ray-1')
    """
    base = environ.get("HOMEPORT_HOME") or "~/.homeport"
    return Path(base).expanduser() / "nodes" / name


def environ_of(
    home: Path, name: str, address: str, token: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of an agent: without what Ray tells its workers, such as its token."""
    environment = {key: value for key, value in environ.items() if not key.startswith("RAY_")}
    environment["HOMEPORT_HOME"] = str(home)
    if token:
        environment |= {JOIN: f"{address} {name}", TOKEN: token}
    return environment
