"""How a restore puts files into a home, so that all of them change or none."""

import contextlib
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from homeport.contract.errors import StorageError
from homeport.durable import sync
from homeport.private import write
from homeport.state import archive


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait until the end of the block: between its steps a home would be half of a backup."""
    waiting = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unwrapped(folder: Path, home: Path, private: Mapping[str, bytes]) -> dict[Path, Path]:
    """Write certificates and settings beside the home's: where each is -> its place. The home's own settings stay."""
    files: dict[Path, Path] = {}
    for name, content in private.items():
        is_certificate = name.partition("/")[0] in archive.CERTIFICATES
        if is_certificate or (name == archive.CONFIG and not (home / name).exists()):
            part = folder / f"private-{len(files)}"
            write(part, content)
            files[part] = home / name
    return files


def put(files: Mapping[Path, Path], home: Path) -> None:
    """Move files to their places; the certificates that the home has beside them stay.

    The rows are restored by now, so an error undoes nothing: it names the file.
    """
    failed: dict[Path, OSError] = {}
    for part, target in files.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.replace(target)
            sync(target.parent)
        except OSError as error:
            failed[target] = error
    try:
        sync(home)
    except OSError as error:
        failed[home] = error
    if failed:
        path, first = next(iter(failed.items()))
        raise StorageError(
            f"apps, secrets and volumes are those of the backup, but {len(failed)} of its files could not be "
            f"put in place: {path}: {first.strerror}",
            hint="repair that, and restore the backup again with `--force`",
        )


@contextlib.contextmanager
def moved_volumes(folder: Path, keys: Collection[str], root: Path) -> Iterator[None]:
    """Put volumes in their places; those that were there stay beside them. After an error all is as before."""
    done: list[tuple[Path, Path | None, Path]] = []
    try:
        for key in keys:
            target, aside = root / key, None
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if target.exists():
                aside = target.with_name(f"{target.name}.before-restore-{time.time_ns()}")
                target.rename(aside)
            done.append((folder / key, aside, target))
            (folder / key).rename(target)
            sync(target.parent)
        yield
    except BaseException:
        for came_from, aside, target in reversed(done):
            with contextlib.suppress(OSError):
                target.rename(came_from)
            if aside is not None:
                aside.rename(target)
        raise


def move_blobs(folder: Path, home: Path) -> None:
    """Move the blobs to the home; a blob has no effect until a row names it."""
    for path in folder.glob("blobs/*"):
        target = home / "blobs" / path.name[:2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        sync(target.parent)
