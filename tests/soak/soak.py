"""Hours of changes and kills under probes: `uv run python -m tests.soak.soak --minutes 60`.

Deploys, rolls back, kills the control plane and containers at random, and counts what the probes
saw. Nobody but a person runs it. It ends with the counts; exit code 1 where a promise was broken.
"""

import argparse
import random
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.journeys.conftest import Terminal
from tests.journeys.test_churn import CHURN, Probes


def main() -> int:
    """Return 0 if no probe failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        script = Path(folder) / "script.py"
        script.write_text(textwrap.dedent(CHURN))
        terminal = Terminal(home)
        try:
            url = terminal.deploy(script)["whole"]
            memory_mib = []
            until = time.monotonic() + given.minutes * 60
            with Probes(url) as probes:
                while time.monotonic() < until:
                    what = chance.choice([deploy, deploy, rollback, kill_control_plane])
                    what(terminal, script, done)
                    server = psutil.Process(terminal.status()["pid"])
                    memory_mib.append(round(server.memory_info().rss / 2**20))
            print(dict(done), probes.counts, f"server MiB {memory_mib[0]} -> {memory_mib[-1]}")
            for failure in probes.failures:
                print(failure)
            return 1 if probes.failures else 0
        finally:
            terminal.close()


def deploy(terminal: Terminal, script: Path, done: Counter[str]) -> None:
    """Deploy another version."""
    done["deploys"] += 1
    script.write_text(
        textwrap.dedent(CHURN).replace("VERSION = 1", f"VERSION = {done['deploys'] + 1}")
    )
    terminal.run("deploy", script)


def rollback(terminal: Terminal, _script: Path, done: Counter[str]) -> None:
    """Roll back to the previous version."""
    if terminal.json("app", "list")[0]["version"] > 1:
        terminal.run("app", "rollback", "churn")
        done["rollbacks"] += 1


def kill_control_plane(terminal: Terminal, _script: Path, done: Counter[str]) -> None:
    """Kill the control plane, and start another."""
    psutil.Process(terminal.status()["pid"]).kill()
    terminal.run("up")
    done["kills"] += 1


if __name__ == "__main__":
    sys.exit(main())
