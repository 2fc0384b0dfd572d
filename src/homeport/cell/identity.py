"""Which users and groups a cell has: the maps of its user namespace (man 7 user_namespaces)."""

import contextlib
import os
import shutil

from homeport.cell.description import Ids, range_of_ids

#: Of the ids that cells have where the server is root: no user of the machine has one of them.
FIRST_ID = 0x10000 * 32


def own() -> Ids | None:
    """Return the ids that this user's cells and their layers' files have.

    None: there is one id only, which is root inside.
    """
    return range_of_ids(FIRST_ID) if os.geteuid() == 0 else subordinate()


def lend(pid: int, ids: Ids) -> None:
    """Give a process's new user namespace its ids (man 7 user_namespaces).

    Directly by a privileged process; an ordinary user needs `newuidmap` and a range in /etc/subuid.
    """
    for name, helper, rows in (
        ("uid_map", "newuidmap", ids.users),
        ("gid_map", "newgidmap", ids.groups),
    ):
        if os.geteuid() == 0:
            _write(f"/proc/{pid}/{name}", "\n".join(" ".join(map(str, row)) for row in rows))
            continue
        import subprocess  # for a node alone; it costs a container 10 ms

        words = [helper, str(pid), *(str(word) for row in rows for word in row)]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        if result.returncode:
            raise OSError(1, result.stderr.strip() or "it failed", helper)


def subordinate() -> Ids | None:
    """The ids that /etc/subuid and /etc/subgid lend to this user; None without them or newuidmap."""
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    import pwd  # not every interpreter has this module

    try:
        names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        names = {str(os.getuid())}
    users, groups = _lent("/etc/subuid", names), _lent("/etc/subgid", names)
    if users is None or groups is None:
        return None
    return Ids(users=((0, os.getuid(), 1), users), groups=((0, os.getgid(), 1), groups))


def _lent(path: str, names: set[str]) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        for line in file:
            owner, first, count = [*line.strip().split(":"), "", ""][:3]
            if owner in names and first.isdecimal() and count.isdecimal():
                return 1, int(first), min(int(count), 65535)
    return None


def have_one(user_inside: int, user: int, group_inside: int, group: int) -> None:
    """Give this process's new user namespace one user and one group: its own from outside."""
    _write("/proc/self/setgroups", "deny")  # else an ordinary user may not write the gid_map
    _write("/proc/self/uid_map", f"{user_inside} {user} 1")
    _write("/proc/self/gid_map", f"{group_inside} {group} 1")


def nested() -> Ids | None:
    """The ids for a cell inside this one: the same; None if there is only one."""
    maps = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "rb") as file:
            rows = [tuple(int(word) for word in line.split()) for line in file]
        maps.append(tuple((inside, inside, count) for inside, _, count in rows))
    users, groups = maps
    return None if sum(row[2] for row in users) == 1 else Ids(users=users, groups=groups)


def _write(path: str, text: str) -> None:
    """Write the whole text by one write(2), as these files require."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode() + b"\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"write {path}") from None
    finally:
        os.close(descriptor)
