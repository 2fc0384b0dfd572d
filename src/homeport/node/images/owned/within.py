"""`python -m homeport.node.images.owned.within ORDER`: does work on layers as the root of their files.

The files of a layer belong to the ids that cells have, and that no user of this machine has. So they are
unpacked, measured and deleted in a user namespace with these ids. ORDER is a JSON file, which is deleted after
it was read, because a step's variables are in it:

    {"do": "unpack", "archive": "/…/blob", "into": "/…/files"}       prints {"entries", "bytes", "devices"}
    {"do": "copy", "files": [["/…/source", "usr/local/x", 493]], "into": "/…/files"}
    {"do": "lay", "cell": {…}, "archives": [["/…/archive", "/opt"]], "owner": ""}      (owned/laying.py)
    {"do": "pack", "cell": {…}, "sources": ["/bin/*"], "target": "/opt/", "is_directory": false, "mode": null, "into": "/…/archive"}
    {"do": "tree", "source": "/…/python", "place": "usr/local", "without": "a-name", "into": "/…/files"}
    {"do": "empty", "directory": "/…/files"}
    {"do": "measure", "directory": "/…/files"}                       prints {"bytes"}
    {"do": "run", "cell": {…}, "commands": [["$ true", ["true"]]], "cwd": "/", "environ": {…}, "over": ["/opt/x"]}

`over` are directories that the cell shows and that others must not write. The commands may write there: their files
are in
`1/over0/files` of the cell's storage, and the directory itself does not change.

`run` prints each command's title, if it has one, and ends with the first that fails; its exit code is that one's (255
instead of FAILED or FULL). Otherwise 0; FAILED, with the reason as the last line; or FULL.
"""

import errno
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, NoReturn

from homeport.cell import base, identity, kernel, mounts, namespaces, private, seal
from homeport.cell.description import Cell, Network
from homeport.contract import codec
from homeport.node.images.owned import archives, laying, unpack

#: Exit codes of this process's own failures. `timeout` and `xargs` end with 123 to 127, and signals become 129 to 192.
FAILED, FULL = 253, 254
NOT_FOUND = 127
MEMORY_BYTES = 2 * 1024**3  # of addresses, for work with archives
STORAGE = "1"  # in a step's storage: `1/root/files` is what it wrote
OVER = "over"


def main() -> int:
    """Read the order and run it."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 10 ms
        order = json.load(file)
    os.unlink(sys.argv[1])  # noqa: PTH108
    try:
        if order["do"] == "run":
            cell: Cell = codec.decode(Cell, order["cell"])
            over = order.get("over", ())
            return _in_cell(cell, lambda: _execute(cell, order), lambda: seal.seal_init(cell), over)
        if order["do"] in ("lay", "pack"):
            return _in_cell(codec.decode(Cell, order["cell"]), _files(order))
        return _as_root(_prepared(order))
    except archives.UnfitError as error:
        return _failed(str(error))
    except OSError as error:
        return _refused(error)


def _prepared(order: dict[str, Any]) -> Callable[[], dict[str, int]]:
    """Return the function for an order; open the files outside the directory here, in the host's view."""
    ids = identity.own()
    if order["do"] == "unpack":
        archive = open(order["archive"], "rb")  # noqa: PTH123, SIM115 - for the child
        root = _directory(order["into"])
        return lambda: _unpack(archive, root, 1 if ids is None else unpack.IDS)
    if order["do"] == "copy":
        root = _directory(order["into"])
        opened = [(open(a, "rb"), place, mode) for a, place, mode in order["files"]]  # noqa: PTH123, SIM115
        return lambda: _copy(opened, root)
    if order["do"] == "tree":
        root, source = _directory(order["into"]), _directory(order["source"])
        return lambda: _tree(source, root, order["place"], order.get("without", ""))
    directory = _directory(order["directory"])
    return lambda: _programs(directory, order["do"])


def _as_root(work: Callable[[], dict[str, int]]) -> int:
    """Call `work` in a child process that is root of its own user namespace with the cells' ids."""
    child = namespaces.fork(Network.NONE, identity.own())
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = FAILED
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        code = _answered(work)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _unpack(archive: IO[bytes], root: int, ids: int) -> dict[str, int]:
    counted = unpack.unpack(archive, root, ids=ids)
    return {"entries": counted.entries, "bytes": counted.bytes, "devices": counted.devices}


def _copy(files: Sequence[tuple[IO[bytes], str, int]], root: int) -> dict[str, int]:
    total = 0
    for source, place, mode in files:
        folder, _, name = place.rpartition("/")
        directory = _make_directories(root, folder)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        with source, os.fdopen(os.open(name, flags, mode, dir_fd=directory), "wb") as target:
            shutil.copyfileobj(source, target, archives.CHUNK_BYTES)
            total += target.tell()
        os.close(directory)
    return {"bytes": total}


def _tree(source: int, root: int, place: str, without: str) -> dict[str, int]:
    """Copy a directory with everything below it but files of one name, links as links; root owns the copies."""
    into = _make_directories(root, place)
    total = 0
    for folder, directories, files, directory in os.fwalk(".", onerror=_raise, dir_fd=source):
        target = kernel.open_in_root(into, folder, os.O_RDONLY | os.O_DIRECTORY)
        for name in (*directories, *files):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(name, dir_fd=directory), name, dir_fd=target)
            elif stat.S_ISDIR(status.st_mode):
                os.mkdir(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=target)
            elif stat.S_ISREG(status.st_mode) and name != without:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                mode = stat.S_IMODE(status.st_mode)
                with (
                    os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as old,
                    os.fdopen(os.open(name, flags, mode, dir_fd=target), "wb") as new,
                ):
                    shutil.copyfileobj(old, new, archives.CHUNK_BYTES)
                    total += status.st_size
                os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target)
        os.close(target)
    return {"bytes": total}


def _raise(error: OSError) -> NoReturn:
    raise error


def _make_directories(root: int, path: str) -> int:
    """Make a directory below `root` with its parents; return its descriptor."""
    path_made = ""
    for part in path.split("/"):
        path_made = f"{path_made}/{part}"
        above = kernel.open_in_root(
            root, path_made.rpartition("/")[0], os.O_RDONLY | os.O_DIRECTORY
        )
        with suppress(FileExistsError):
            os.mkdir(part or ".", 0o755, dir_fd=above)
        os.close(above)
    return kernel.open_in_root(root, path_made, os.O_RDONLY | os.O_DIRECTORY)


def _programs(directory: int, task: str) -> dict[str, int]:
    """Run programs that work at any depth of directories (Python recurses)."""
    os.fchdir(directory)
    if task == "empty":
        subprocess.run(["find", ".", "-xdev", "-mindepth", "1", "-delete"], check=False)
        return {"left": len(os.listdir("."))}  # noqa: PTH208
    result = subprocess.run(["du", "-xs", "-B1", "."], capture_output=True, check=False)
    return {"bytes": int(result.stdout.split()[0] or 0)}


def _directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


# a step


def _in_cell(
    cell: Cell,
    main: Callable[[], int],
    before: Callable[[], None] = lambda: None,
    over: Sequence[str] = (),
) -> int:
    return base.run(cell, lambda: _private(cell, main, before, over))


def _private(
    cell: Cell, main: Callable[[], int], before: Callable[[], None], over: Sequence[str]
) -> int:
    try:
        child = private.fork(cell, STORAGE)
        if child:
            kernel.close_from(3)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for number, path in enumerate(over):
            _write_over(path, f"{OVER}{number}")
        mounts.place([])
        code = base.reap(main, before)
    except OSError as error:
        code = _refused(error)
    os._exit(code)


def _write_over(path: str, name: str) -> None:
    """Make a directory that the cell shows writable; what is written is in the cell's storage."""
    lower = f"{mounts.STAGE}/lower-{name}"  # the path itself may have characters that mean something there
    os.mkdir(lower)  # noqa: PTH102
    kernel.bind(path, lower)
    mounts.overlay(path, [lower], f"{mounts.STAGE}/{name}")
    kernel.umount(lower)


def _files(order: dict[str, Any]) -> Callable[[], int]:
    """Return the function that lays files, or takes them; the archives are opened here, in the host's view."""
    archives.load()
    if order["do"] == "lay":
        ids = 1 if identity.own() is None else unpack.IDS
        opened = [(open(path, "rb"), target) for path, target in order["archives"]]  # noqa: PTH123, SIM115
        return lambda: _answered(lambda: laying.lay(opened, ids, order["owner"]))
    out = open(order["into"], "xb")  # noqa: PTH123, SIM115
    options = {"is_directory": order["is_directory"], "mode": order["mode"]}
    return lambda: _answered(lambda: laying.pack(out, order["sources"], order["target"], **options))


def _answered(work: Callable[[], dict[str, int]]) -> int:
    """Do it and print its answer; the exit code."""
    _bound_memory()
    os.umask(0o022)
    try:
        print(json.dumps(work()), flush=True)  # noqa: T201 - the answer
    except archives.UnfitError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("the archive needs too much memory")
    except OSError as error:
        return _refused(error)
    return 0


def _bound_memory() -> None:
    """Limit the memory of this process, because an archive can require any amount for its decompression."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _execute(cell: Cell, order: dict[str, Any]) -> int:
    os.makedirs(order["cwd"], exist_ok=True)  # noqa: PTH103 - as a Dockerfile's WORKDIR does
    os.chdir(order["cwd"])
    seal.seal(cell)
    for title, argv in order["commands"]:
        if title:
            print(title, flush=True)  # noqa: T201 - the build's output
        child = os.fork()
        if child == 0:
            _become(argv, order["environ"])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code in (FAILED, FULL):
            return 255
        if code:
            return code if code > 0 else 128 - code
    return 0


def _become(argv: list[str], environ: dict[str, str]) -> None:
    try:
        # Only here, because LD_PRELOAD and the like are for the step, not for the process that makes its cell.
        os.execvpe(argv[0], argv, environ)  # noqa: S606
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(NOT_FOUND)


def _refused(error: OSError) -> int:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FULL
    where = f" ({error.filename})" if error.filename else ""
    return _failed(f"{error.strerror or error}{where}")


def _failed(text: str) -> int:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
