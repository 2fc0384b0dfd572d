"""A copy of the repository, in which lines are broken and tests run.

The tests run in a sandbox (`alone`), because a broken line may delete files or kill processes.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Self

from tests.mutate.alone import running

ROOT = Path(__file__).parents[2]


class Tested(NamedTuple):
    """How a run of tests ended."""

    failed: str  # the first test that failed, "" if all passed
    seconds: float
    output: str
    late: bool = False  # the time limit ended it
    skipped: int = 0  # a break can make the tests skip that would notice it


class Copied:
    """A copy of the working tree with an environment of its own; its directory goes at the end."""

    _writes = 0

    def __init__(self) -> None:
        self.unfit: set[str] = set()  # tests that fail in a copy

    def __enter__(self) -> Self:
        self._made = tempfile.TemporaryDirectory(prefix="mutate-", dir="/var/tmp")
        self.folder = Path(self._made.name)
        self.folder.chmod(0o755)  # tests of an ordinary user read it too
        asked = ["git", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in listed.splitlines():
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)
        self._environ = {
            **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
            # HAProxy takes 97 bytes of a socket's path. As root the tests have a /var/tmp of their own.
            "PYTEST_DEBUG_TEMPROOT": str(self.folder / "tmp") if os.geteuid() else "/var/tmp",
        }
        words = ["uv", "sync", "-q", "--group", "dev"]
        subprocess.run(words, cwd=self.folder, env=self._environ, check=True)
        (self.folder / "tmp").mkdir(mode=0o1777)
        return self

    def __exit__(self, *_error: object) -> None:
        self._made.cleanup()

    def write(self, path: Path, text: bytes) -> None:
        """Replace a file, with a time of its own: Python compiles only what has another time or size."""
        self._writes += 1
        target = self.folder / path
        at_s = target.stat().st_mtime + self._writes
        target.write_bytes(text)
        os.utime(target, (at_s, at_s))

    def test(self, tests: list[str], limit_s: float) -> Tested:
        """Run these tests until the first one fails, without those in `unfit`."""
        python = self.folder / ".venv/bin/python"
        pytest = f"{python} -m pytest -x -n 0 -rfEs --tb=line -p no:cacheprovider".split()
        # A broken loop may catch what the other method raises.
        pytest += ["--timeout=60", "--timeout-method=thread"]
        pytest += [f"--deselect={test}" for test in self.unfit]
        began = time.monotonic()
        with running([*pytest, *tests], self.folder, self._environ) as process:
            try:
                output, late = process.communicate(timeout=limit_s)[0], False
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, late = process.communicate()[0], True
        ends = ("FAILED tests/", "ERROR tests/")
        lines = [line for line in output.splitlines() if line.startswith(ends)]
        failed = [line.partition(" ")[2].partition(" - ")[0] for line in lines]
        if not failed and process.returncode not in (0, 5) and not late:
            failed = ["(pytest itself)"]
        skipped = sum(map(int, re.findall(r"^SKIPPED \[(\d+)\]", output, re.MULTILINE)))
        return Tested(*failed[:1] or [""], time.monotonic() - began, output, late, skipped)
