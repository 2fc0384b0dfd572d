"""Finds which parts of a cell this machine allows, and why others fail. `python -m homeport.cell.report` prints JSON.

Everything is tried, in a child: some systems make a user namespace and then refuse to mount in it. A
sysctl is read only to explain what failed.
"""

import dataclasses
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

from homeport import removing
from homeport.cell import base, host, identity, kernel, private, seal
from homeport.cell.description import Bind, Cell, Ids, Network, range_of_ids
from homeport.contract.dataclass import dataclass

TRIAL_IDS = 231072  # any range works: the trial's files are deleted afterwards
HELPERS = ("pasta", "slirp4netns")
#: What the system always says, whatever else runs there.
LASTING = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
WAITS_S = (0.05, 0.2)  # before the trial is repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The parts of a cell that this machine allows."""

    possible: bool
    why: str = ""  # the reason, if it is not possible
    hint: str = ""
    overlay: bool = False  # if not, the files that a container writes are in memory
    ids: int = 0  # user ids that a cell has; with one, a program cannot change its user
    network: bool = False  # namespaces of their own
    abstract_sockets: bool = False  # kept apart without a network namespace, by Landlock
    helper: str = ""  # the program that connects an ordinary user's cell to the network


def report(directory: str = "/var/tmp") -> Report:  # noqa: S108 - a directory of its own is made in it
    """Try a cell as a container would have it, whose files are in `directory`.

    The parts are tried at the same time, because most of a trial is waiting for the kernel to clear a namespace up.
    """
    ids = range_of_ids(TRIAL_IDS) if os.geteuid() == 0 else identity.subordinate()
    overlay, network = _parts(directory, ids)
    error, used_ids = _try_with(directory, ids)
    has_overlay, has_network = overlay(), network()
    if error is not None:
        why, hint = obstacle(error, _read)
        return Report(possible=False, why=why, hint=hint)
    if used_ids is not ids:
        overlay, network = _parts(directory, used_ids)
        has_overlay, has_network = overlay(), network()
    return Report(
        possible=True,
        overlay=has_overlay,
        ids=1 if used_ids is None else sum(row[2] for row in used_ids.users),
        network=has_network,
        abstract_sockets=kernel.landlock_abi() >= seal.SCOPES_ABI,
        helper=helper(),
    )


def _parts(directory: str, ids: Ids | None) -> tuple[Callable[[], bool], Callable[[], bool]]:
    """Begin to try an overlay and a network; return functions that wait, and say whether it worked."""
    return (
        _beside(lambda: _trial_error(directory, Network.HOST, ids, overlay=True)),
        _beside(lambda: _trial_error(directory, Network.NONE, ids, overlay=False)),
    )


def _beside(attempt: Callable[[], OSError | None]) -> Callable[[], bool]:
    """Make an attempt in a child; return a function that waits for it, and says whether it worked."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if attempt() is None else 1
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def helper() -> str:
    """Return the program that connects an ordinary user's cell to the network; empty if there is none."""
    return next((name for name in HELPERS if shutil.which(name)), "")


def obstacle(error: OSError, read: Callable[[str], str]) -> tuple[str, str]:
    """Say why a cell cannot be made and what to do, from the step that failed; `read` reads a file."""
    if read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        name = "kernel.unprivileged_userns_clone"
        return f"{name} is 0: only root may make user namespaces", f"`sysctl -w {name}=1`, as root"
    if read("/proc/sys/user/max_user_namespaces") == "0":
        name = "user.max_user_namespaces"
        return f"{name} is 0: nobody may make user namespaces", f"`sysctl -w {name}=15000`, as root"
    name = "kernel.apparmor_restrict_unprivileged_userns"
    if os.geteuid() != 0 and read(f"/proc/sys/{name.replace('.', '/')}") == "1":
        profile = read("/proc/self/attr/current") or "unconfined"
        why = (
            f"AppArmor forbids it to an ordinary user's programs (profile `{profile}`; {name} is 1)"
        )
        hint = (
            f"give {sys.executable} an AppArmor profile with the rule `userns,`, "
            f"or `sysctl -w {name}=0`, as root"
        )
        return why, hint
    if "proc" in str(error.filename) and "mount" in str(error.filename):
        why = "this machine is a container that hides parts of /proc, so no new one can be mounted"
        return why, "with Docker: `--security-opt systempaths=unconfined`"
    if "\nSeccomp:\t2" in read("/proc/self/status"):
        why = f"this machine is a container that refuses system calls ({error})"
        return (
            why,
            "with Docker: `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`",
        )
    return (
        f"the kernel refused it: {error}",
        "a kernel of Linux 5.12 or newer is needed, with CONFIG_USER_NS",
    )


def _try_with(directory: str, ids: Ids | None) -> tuple[OSError | None, Ids | None]:
    """Return the trial's error, and the ids that it used: one id only, if more were refused."""
    error = _trial_error(directory, Network.HOST, ids, overlay=False)
    if error is not None and ids is not None and os.geteuid() != 0:
        return _trial_error(directory, Network.HOST, None, overlay=False), None
    return error, ids


def _trial_error(
    directory: str, network: Network, ids: Ids | None, *, overlay: bool
) -> OSError | None:
    """Return None if a container could run in such a cell; otherwise the error.

    Some errors may come from what other programs do at that moment, and the answer would cost the
    server its sandboxes until its next start. So the trial is repeated then.
    """
    for wait_s in WAITS_S:
        error = _one_trial(directory, network, ids, overlay=overlay)
        if error is None or error.errno in LASTING:
            return error
        time.sleep(wait_s)
    return _one_trial(directory, network, ids, overlay=overlay)


def _one_trial(
    directory: str, network: Network, ids: Ids | None, *, overlay: bool
) -> OSError | None:
    with tempfile.TemporaryDirectory(prefix="homeport-cell-", dir=directory) as storage:
        owned = [Bind(directory, owned=True)] if os.geteuid() == 0 else []
        cell = host.cell(host.interpreter(sys.executable), binds=owned)
        cell = dataclasses.replace(
            cell, network=network, ids=ids, overlay=overlay, storage=storage if overlay else ""
        )
        reader, writer = os.pipe()
        trial = os.fork()
        if trial == 0:
            os.close(reader)
            _try(cell, writer)
        os.close(writer)
        with open(reader, encoding="utf-8") as answer:
            result = answer.read()
        os.waitpid(trial, 0)
        # It has directories that only the cell's root could enter.
        removing.discard(storage)
        os.makedirs(storage, exist_ok=True)
    if result == "sealed":
        return None
    if result.startswith("{"):
        failure = json.loads(result)
        return OSError(failure["errno"], failure["text"], failure["what"])
    return OSError(0, result or "the trial ended without an answer", "cell")


def _try(cell: Cell, writer: int) -> None:
    def container() -> int:
        child = private.fork(cell, "trial")
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seal.seal(cell)
        os.write(writer, b"sealed")
        os._exit(0)

    try:
        os._exit(base.run(cell, lambda: _reporting(container, writer)))
    except BaseException as error:
        _report_error(error, writer)
    os._exit(1)


def _reporting(function: Callable[[], int], writer: int) -> int:
    try:
        return function()
    except BaseException as error:
        _report_error(error, writer)
        return 1


def _report_error(error: BaseException, writer: int) -> None:
    if isinstance(error, OSError):
        failure = {"errno": error.errno, "text": error.strerror, "what": str(error.filename or "")}
        os.write(writer, json.dumps(failure).encode())
    else:
        os.write(writer, repr(error).encode())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n\0")
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(report(*sys.argv[1:2]))))  # noqa: T201 - it is the answer
