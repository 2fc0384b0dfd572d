"""Runs a command where a broken line of homeport can do no harm.

As root, the command has process ids and temporary directories of its own, and may write nothing else but the copy
of the repository and uv's cache. All its processes end with it, also if the process that called this is killed.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

#: Run as the first process of its own namespaces: $1 is the copy, below /var/tmp, $2 uv's cache, the rest a command.
ALONE = """set -e
mount --make-rprivate /
inside="$1/var/${1#/var/tmp/}"
mkdir -p "$1/tmp" "$inside" && chmod 1777 "$1/tmp" "$1/var"
mount --bind "$2" "$2"
mount --bind "$1" "$inside"
mount --bind "$1/tmp" /tmp
mount --rbind "$1/var" /var/tmp
mount -t tmpfs tmpfs /dev/shm
mount -o remount,bind,ro /
cd "$1"
shift 2
exec "$@"
"""


@contextlib.contextmanager
def running(
    command: list[str], copy: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in the copy; its output is a pipe. It ends with this block, at the latest."""
    process = subprocess.Popen(
        # `unshare --kill-child` then ends the first process of the namespace, and the kernel all others.
        ["setpriv", "--pdeathsig", "KILL", *_namespaces(copy), *command],
        cwd=copy,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _namespaces(copy: Path) -> list[str]:
    if os.geteuid():
        return []
    asked = ["uv", "cache", "dir"]
    cache = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*own, "sh", "-c", ALONE, "sh", str(copy), cache]
