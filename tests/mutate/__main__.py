"""Break random lines of homeport, one at a time, and say which ones no test notices.

    uv run python -m tests.mutate --seed 7 --lines 10 control/fleet node/zygotes
    uv run python -m tests.mutate --each-file wire

Each line is broken in a copy of the repository, and the tests of its module run there: first
`test_<module>.py` or what `tests/house/covered.py` names, then the examples in its docstrings, the other tests of that
folder, and those of its whole room.
A test that fails is run again without the break, and counts only if it passes then.
`own passed` is a line that the nearest tests let pass, while the other tests took longer than the limit.
The exit status is 1 if a broken line was not noticed.
"""

import argparse
import random
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.house.covered import COVERED
from tests.house.test_layout import twin
from tests.mutate.breaks import Break, breaks_of
from tests.mutate.copied import ROOT, Copied

SRC = ROOT / "src/homeport"
#: The test of the examples in docstrings; its parameter is a module.
EXAMPLES = "tests/house/test_doctests.py::test_the_examples_in_docstrings_are_true"


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the copy is removed then, too
    chosen = _chosen(options)
    counts = dict.fromkeys(("caught", "NOT CAUGHT", "own passed", "only a text", "no result"), 0)
    with Copied() as copied:
        for number, broken in enumerate(chosen, 1):
            result, why = _tried(copied, broken, options.limit)
            counts[result] += 1
            text = (copied.folder / "src/homeport" / broken.path).read_text()
            source = text.splitlines()[broken.line - 1].strip()
            print(f"{number:3} {result:11} {broken.path}:{broken.line} {broken.kind}: {source}")
            print(f"    {why}", flush=True)
        for test in sorted(copied.unfit):
            print(f"left out, for it fails here without a break: {test}")
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    return 1 if counts["NOT CAUGHT"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument(
        "rooms", nargs="*", help="folders or files below src/homeport; default: all"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--lines", type=int, default=10, help="how many lines to break")
    parser.add_argument("--each-file", action="store_true", help="break one line of each file")
    parser.add_argument("--limit", type=float, default=240, help="seconds for one run of tests")
    parser.add_argument("--line", help="break only the lines FILE:LINE, each in every way")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Break]:
    print(f"seed {options.seed}")
    wanted, _, line = (options.line or "").partition(":")
    rooms = [wanted] if wanted else options.rooms
    files = [breaks_of(path, (SRC / path).read_bytes()) for path in _files(rooms)]
    lines = [breaks for file in files for breaks in file]
    if wanted:
        return [broken for breaks in lines for broken in breaks if broken.line == int(line)]
    chance = random.Random(options.seed)
    if options.each_file:
        sample = [chance.choice(file) for file in files if file]
    else:
        sample = chance.sample(lines, min(options.lines, len(lines)))
    return [chance.choice(breaks) for breaks in sample]


def _files(rooms: list[str]) -> Iterator[Path]:
    for path in sorted(SRC.rglob("*.py")):
        name = path.relative_to(SRC)
        if name.parts[0] != "onpath" and (not rooms or any(name.is_relative_to(r) for r in rooms)):
            yield name


def _tried(copied: Copied, broken: Break, limit_s: float) -> tuple[str, str]:
    """Return how one broken line ended: a name of a count, and the reason."""
    target = Path("src/homeport") / broken.path
    source = (copied.folder / target).read_bytes()
    why = ""
    for tests in _tests_of(broken.path, copied.folder):
        while True:
            copied.write(target, broken.applied(source))
            ended = copied.test(tests, limit_s)
            copied.write(target, source)
            again = [ended.failed] if "::" in ended.failed else tests
            if not ended.failed or ended.late or _passes(copied, again, limit_s):
                break
            if again is tests:
                return "no result", f"{' '.join(tests)}: {ended.output[-300:]}"
            copied.unfit.add(ended.failed)  # it fails without the break, too
        if ended.late and why:
            return "own passed", f"{why}; the tests after them took more than {limit_s:.0f} s"
        if ended.late:
            return "no result", f"{tests[0]} took more than {limit_s:.0f} s"
        if ended.failed:
            return "caught", f"{ended.failed} ({ended.seconds:.0f} s)"
        why = f"{' '.join(tests)} passed, {ended.skipped} of them were skipped ({ended.seconds:.0f} s)"
    return "only a text" if broken.spoken else "NOT CAUGHT", why


def _passes(copied: Copied, tests: list[str], limit_s: float) -> bool:
    ended = copied.test(tests, limit_s)
    return not ended.failed and not ended.late


def _tests_of(path: Path, root: Path) -> Iterator[list[str]]:
    """Yield the tests of a module: its own, those beside them, and the rest of its room's.

    They are those of the copy, because somebody may work on the repository meanwhile.
    """
    every = root / "tests"
    module = path.with_suffix("").as_posix()
    own, other = twin(module), COVERED.get(module)
    room = twin(module.removesuffix("/__init__"))  # a package's own module has the package's test
    nearest = {every / name for name in (own, other, room) if name and (every / name).exists()}
    folder = (every / own).parent
    beside = {*folder.glob("test_*.py")} - nearest
    others = {*(every / path.parts[0]).rglob("test_*.py")} - nearest - beside
    source = (root / "src/homeport" / path).read_text()
    for tests in (nearest, beside, others):
        if tests and (folder != every or tests is nearest):
            yield [test.relative_to(root).as_posix() for test in sorted(tests)]
        if tests is nearest and re.search("^ *>{3} ", source, re.MULTILINE):
            yield [f"{EXAMPLES}[homeport.{module.replace('/', '.')}]"]


if __name__ == "__main__":
    sys.exit(main())
