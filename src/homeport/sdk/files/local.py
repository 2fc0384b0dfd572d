"""What an image's steps read on the user's machine; in a container it is not there, and not needed."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from homeport.sdk import environment, watched
from homeport.sdk.exception import InvalidError
from homeport.sdk.files import patterns

#: `-r other.txt` in a requirements file, and `-c limits.txt`.
INCLUDES = ("-r", "--requirement")
CONSTRAINS = ("-c", "--constraint")


def text(path: Any) -> str:
    """A file's text; empty in a container."""
    if not environment.is_local():
        return ""
    watched.add(Path(path).expanduser())
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidError(f"`{path}` cannot be read: {why}") from None


def requirements(step: str, paths: Sequence[Any]) -> dict[str, str]:
    """Requirements files and those that they include, as one text; the constraints as another."""
    if isinstance(paths, (str, Path)) or not all(isinstance(p, (str, Path)) for p in paths):
        raise InvalidError(f"`{step}` takes requirements files as a list of paths")
    found: dict[str, list[str]] = {"requirements": [], "constraints": []}
    for path in paths:
        _include(Path(path).expanduser(), "requirements", found, ())
    return {name: "\n".join(lines) + "\n" for name, lines in found.items() if lines}


def source_sha256(function: Callable[..., Any]) -> str | None:
    """A hash of the function's source text, where that can be found."""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def directory(step: str, path: str) -> Path:
    """A step's directory, which need not be there in a container."""
    if environment.is_local() and not Path(path).is_dir():
        raise InvalidError(f"`{step}` takes a directory, and {path} is none")
    return Path(path)


def ignored(step: str, base: Path, ignore: Any) -> list[str]:
    """The patterns of the files that a step leaves out; a function of a path is asked for each."""
    if not callable(ignore):
        if isinstance(ignore, str):
            raise InvalidError(f"`{step}` takes `ignore` as a list of patterns: `[{ignore!r}]`")
        return list(ignore)
    if not environment.is_local():
        return []
    inner = [path.relative_to(base) for path in below(base)]
    return [patterns.literal(path) for path in inner if ignore(path)]


def below(base: Path, ignore: Sequence[str] = ()) -> list[Path]:
    """The files of a directory that a step names."""
    try:
        return patterns.files_below(base, ignore)
    except OSError as error:
        raise InvalidError(f"{error.filename} cannot be read: {error.strerror}") from None


def copied_file(local_path: str, remote_path: str) -> dict[str, str]:
    """path in the source tree -> hash, of one file."""
    return _hashes([(Path(local_path), remote_path)])


def copied_directory(base: Path, remote_path: str, ignore: Sequence[str]) -> dict[str, str]:
    """path in the source tree -> hash, of each file of a directory."""
    if not environment.is_local():
        return {}
    files = below(base, ignore)
    return _hashes((f, str(PurePosixPath(remote_path, f.relative_to(base)))) for f in files)


def copied_modules(names: Sequence[str]) -> dict[str, str]:
    """path in the source tree -> hash, of each file of some modules."""
    if not environment.is_local():
        return {}
    from homeport.contract.image import Step
    from homeport.sdk import place
    from homeport.sdk.files import source

    step = Step(name="add_local_python_source", where=place.here())
    found = [pair for name in names for pair in source.module_files(name, step)]
    return _hashes((path, path.relative_to(base).as_posix()) for path, base in found)


def _include(path: Path, kind: str, found: dict[str, list[str]], above: tuple[Path, ...]) -> None:
    if path in above:
        raise InvalidError(f"`{path}` includes itself")
    for line in text(path).splitlines():
        option, _, rest = line.strip().partition(" ")
        if "=" in option and option.startswith("--"):
            option, _, rest = line.strip().partition("=")
        other = path.parent / rest.partition(" #")[0].strip()
        if option in INCLUDES:
            _include(other, kind, found, (*above, path))
        elif option in CONSTRAINS:
            _include(other, "constraints", found, (*above, path))
        else:
            found[kind].append(line)


def _hashes(files: Iterable[tuple[Path, str]]) -> dict[str, str]:
    if not environment.is_local():
        return {}
    from homeport.sdk.files import source

    return {source.place_of(remote): source.digest(path) for path, remote in files}
