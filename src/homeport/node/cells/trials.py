"""Finds the cells that this machine allows: by a trial in another process, or by the last trial, if nothing has
changed since.

A trial makes four cells, which takes as long as the start of an interpreter, and the first zygote waits for it. Its
answer is stored once a zygote has started in a cell. The next server reads it, and deletes it: if that server's
zygotes do not start, the server after it makes the trial again. Only the answer that everything is possible is stored.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from homeport.cell import report
from homeport.contract import codec

CELL = Path(report.__file__).parent
#: Files that show what the kernel allows to this user.
KERNEL_FILES = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/user/max_user_namespaces",
    "/proc/self/attr/current",
    "/etc/subuid",
    "/etc/subgid",
)
#: Lines of /proc/self/status (proc(5)) about this process's rights.
RIGHTS = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Cap")
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def report_for(root: Path) -> report.Report:
    """Return the cells that this machine allows, for files in a directory. Blocks."""
    return _stored(root) or _trial(root)


def keep(root: Path, answer: report.Report) -> None:
    """Store an answer for the next server, because a cell has worked; if this fails, the next server makes a trial."""
    if answer.possible and answer.overlay and answer.network:
        with contextlib.suppress(OSError):
            path = _path(root)
            fresh = path.with_suffix(".new")
            fresh.write_text(
                json.dumps({"for": _circumstances(root), "told": codec.encode(answer)})
            )
            fresh.replace(path)


def _stored(root: Path) -> report.Report | None:
    path = _path(root)
    try:
        stored = json.loads(path.read_text())
        path.unlink()
        if stored["for"] != _circumstances(root):
            return None
        answer: report.Report = codec.decode(report.Report, stored["told"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return answer


def _trial(root: Path) -> report.Report:
    """Make the trial in another process, because this one has threads."""
    words = [sys.executable, "-P", "-m", "homeport.cell.report", str(root)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        return codec.loads(report.Report, result.stdout)
    except ValueError:
        return report.Report(
            possible=False, why=result.stderr.strip() or "the trial printed nothing"
        )


def _path(root: Path) -> Path:
    return root.with_name("trial.json")


def _circumstances(root: Path) -> str:
    """Return a digest of the facts that the answer depends on: the boot, this process's rights, the disk, our own
    code.
    """
    status = _text("/proc/self/status").splitlines()
    facts = [
        sys.executable,
        os.environ.get("PATH", ""),
        *map(_text, KERNEL_FILES),
        *(line for line in status if line.startswith(RIGHTS)),
        *(_namespace(name) for name in NAMESPACES),
        str(root.stat().st_dev),
        *(str(path.stat().st_mtime_ns) for path in sorted(CELL.glob("*.py"))),
        report.helper(),
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _namespace(name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115 - no path of a file
    return ""


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""
