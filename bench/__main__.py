"""homeport beside what one would use instead, in one run on one machine.

    uv run --group bench python -m bench                  everything; writes RESULTS.md and RESULTS.png
    uv run --group bench python -m bench --quick          a short run, to see that it works
    … --only warm cold --contenders uvicorn homeport      some of it

Only a full run writes into bench/; another prints, and writes where `--out` says.
"""

import argparse
import datetime as dt
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import contenders, load, machine, measures, processes, report
from bench.contenders.base import Contender
from bench.plan import Plan
from bench.results import Findings

HERE = Path(__file__).parent


def main() -> int:
    """0 when everything could be measured, 1 when something failed, 130 after Ctrl-C."""
    given = _arguments()
    load.available()
    # Else every start of everybody would compile what it imports, as no user's second start does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    processes.adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        # Not in /tmp: a container has one of its own, and reads a model here.
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
            return _run(given, Path(folder))
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    finally:
        processes.end_all()


def _run(given: argparse.Namespace, root: Path) -> int:
    began, began_at = time.monotonic(), dt.datetime.now(dt.UTC)
    findings = Findings()
    everyone = contenders.everyone()
    plan = Plan(contenders=[], findings=findings, root=root, quick=given.quick)
    there = _installed(everyone, given.contenders, plan)
    plan = Plan(contenders=there, findings=findings, root=root, quick=given.quick)
    busy = machine.busy()
    interrupted = False
    for name in given.only or measures.ALL:
        plan.say(f"# {name}")
        at = time.monotonic()
        try:
            measures.ALL[name](plan)
        except KeyboardInterrupt:
            interrupted = True
            break
        except Exception as error:
            plan.failed(name, error)
        plan.say(f"  took {time.monotonic() - at:.0f} s")
    text = report.page(
        findings,
        there,
        command=shlex.join(
            ["uv", "run", "--group", "bench", "python", "-m", "bench", *sys.argv[1:]]
        ),
        began=began_at,
        took_s=time.monotonic() - began,
        busy=busy,
    )
    print(text)
    if interrupted:
        raise KeyboardInterrupt
    whole = not (given.quick or given.only or given.contenders)
    out = given.out or (HERE if whole else None)
    if out is not None:
        from bench import plot

        out.mkdir(parents=True, exist_ok=True)
        (out / "RESULTS.md").write_text(text)
        plot.draw(findings, out / "RESULTS.png")
    return 1 if findings.failures else 0


def _installed(everyone: Sequence[Contender], asked: list[str], plan: Plan) -> list[Contender]:
    """Those that were asked for and could be installed; uvicorn always, as the reference."""
    there = []
    for contender in everyone:
        if asked and contender.name not in {*asked, "uvicorn"}:
            continue
        try:
            plan.say(f"installing {contender.name}")
            contender.install()
            there.append(contender)
        except Exception as error:
            plan.failed(contender.name, error)
    return there


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [contender.name for contender in contenders.everyone()]
    parser.add_argument("--quick", action="store_true", help="few rounds, short ones")
    parser.add_argument("--only", nargs="+", choices=list(measures.ALL), metavar="MEASURE")
    parser.add_argument("--contenders", nargs="+", choices=names, metavar="NAME")
    parser.add_argument("--out", type=Path, help="the folder for RESULTS.md and RESULTS.png")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
