"""A copy of the repository, in which lines are broken and tests run.

A broken line may delete files or kill processes. As root, therefore, the tests run with process
ids and temporary directories of their own, and may write nothing else but the copy and uv's cache.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]
#: Run as the first process of its own namespaces: $1 is the copy, $2 uv's cache, the rest a command.
ALONE = """set -e
mount --make-rprivate /
mkdir -p "$1/tmp" "$1/var/$(basename "$1")" && chmod 1777 "$1/tmp" "$1/var"
mount --bind "$2" "$2"
mount --bind "$1" "$1/var/$(basename "$1")"
mount --bind "$1/tmp" /tmp
mount --rbind "$1/var" /var/tmp
mount -o remount,bind,ro /
cd "$1"
shift 2
exec "$@"
"""


class Tested(NamedTuple):
    """How a run of tests ended."""

    failed: str  # the first test that failed, "" if all passed
    seconds: float
    output: str
    late: bool = False  # the time limit ended it


class Copied:
    """A copy of the working tree with an environment of its own; its directory goes at the end."""

    _writes = 0

    def __init__(self) -> None:
        self.unfit: set[str] = set()  # tests that fail in a copy

    def __enter__(self) -> Self:
        self._made = tempfile.TemporaryDirectory(prefix="homeport-mutate-", dir="/var/tmp")
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
            "PYTEST_DEBUG_TEMPROOT": str(self.folder / "tmp"),
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
        pytest = f"{python} -m pytest -x -n 0 -rfE --tb=line -p no:cacheprovider".split()
        # A broken loop may catch what the other method raises.
        pytest += ["--timeout=60", "--timeout-method=thread"]
        pytest += [f"--deselect={test}" for test in self.unfit]
        began = time.monotonic()
        process = subprocess.Popen(
            [*self._alone(), *pytest, *tests],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
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
        return Tested(*failed[:1] or [""], time.monotonic() - began, output, late=late)

    def _alone(self) -> list[str]:
        if os.geteuid():
            return []
        asked = ["uv", "cache", "dir"]
        cache = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*own, "sh", "-c", ALONE, "sh", str(self.folder), cache]
