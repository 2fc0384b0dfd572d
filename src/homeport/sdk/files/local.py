"""Reads local files for an image's steps. In a container they are absent and not needed."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from homeport.sdk import context, watched
from homeport.sdk.exception import InvalidError
from homeport.sdk.files import patterns

#: `-r other.txt` in a requirements file, and `-c limits.txt`.
INCLUDES = ("-r", "--requirement")
CONSTRAINS = ("-c", "--constraint")


def text(path: Any) -> str:
    """Return a file's text; an empty text in a container."""
    if not context.is_local():
        return ""
    watched.add(Path(path).expanduser())
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidError(f"`{path}` cannot be read: {why}") from None


def requirements(step: str, paths: Sequence[Any]) -> dict[str, str]:
    """Return the text of requirements files with the files that they include, and that of the constraints."""
    if isinstance(paths, (str, Path)) or not all(isinstance(p, (str, Path)) for p in paths):
        raise InvalidError(f"`{step}` takes requirements files as a list of paths")
    lines_by_kind: dict[str, list[str]] = {"requirements": [], "constraints": []}
    for path in paths:
        _include(Path(path).expanduser(), "requirements", lines_by_kind, ())
    return {name: "\n".join(lines) + "\n" for name, lines in lines_by_kind.items() if lines}


def source_sha256(function: Callable[..., Any]) -> str | None:
    """Return the SHA-256 of the function's source text; None if Python cannot find the text."""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def directory(step: str, path: str) -> Path:
    """Return the path of a step's directory; `InvalidError` if it is missing, except in a container."""
    if context.is_local() and not Path(path).is_dir():
        raise InvalidError(f"`{step}` takes a directory, and {path} is not a directory")
    return Path(path)


def ignored(step: str, base: Path, ignore: Any) -> list[str]:
    """Return the patterns of the files that a step leaves out; if `ignore` is a function, ask it for each file."""
    if not callable(ignore):
        if isinstance(ignore, str):
            raise InvalidError(f"`{step}` takes `ignore` as a list of patterns: `[{ignore!r}]`")
        listed = list(ignore)
        if not all(isinstance(pattern, str) for pattern in listed):
            raise InvalidError(f"`{step}` takes `ignore` as a list of patterns, not {listed!r}")
        patterns.FilePatternMatcher(*listed)  # raises for one that is no pattern
        return listed
    if not context.is_local():
        return []
    inner = [path.relative_to(base) for path in below(base)]
    return [patterns.literal(path) for path in inner if ignore(path)]


def below(base: Path, ignore: Sequence[str] = ()) -> list[Path]:
    """Return the files of a directory, without the ignored ones."""
    try:
        return patterns.files_below(base, ignore)
    except OSError as error:
        raise InvalidError(f"{error.filename} cannot be read: {error.strerror}") from None


def absolute(step: str, remote: Any) -> str:
    """Return an absolute path in a container; `InvalidError` for a relative one."""
    text = str(remote)
    if not text.startswith("/"):
        raise InvalidError(f"`{step}`: remote_path must be absolute, and `{text}` is not")
    return text


def existing(path: Any) -> str:
    """Return a local path as an absolute path; `InvalidError` if it does not exist, except in a container."""
    local_path = Path(path).expanduser().absolute()
    if context.is_local() and not local_path.exists():
        raise InvalidError(f"local path {path} does not exist")
    return str(local_path)


def copied_file(local_path: str, remote_path: str) -> dict[str, str]:
    """Return the file's path in the source tree -> its SHA-256."""
    return _hashes([(Path(local_path), remote_path)])


def copied_directory(base: Path, remote_path: str, ignore: Sequence[str]) -> dict[str, str]:
    """Return each file's path in the source tree -> its SHA-256, for a directory."""
    if not context.is_local():
        return {}
    files = below(base, ignore)
    return _hashes((f, str(PurePosixPath(remote_path, f.relative_to(base)))) for f in files)


def ignored_of_modules(step: str, names: Sequence[str], ignore: Any) -> list[str]:
    """Return the patterns of the files of modules that a step leaves out; see `ignored`."""
    if not callable(ignore):
        return ignored(step, Path(), () if ignore is None else ignore)
    if not context.is_local():
        return []
    from homeport.sdk.files import source

    folders = [folder for name in names for folder in source.package_folders(name)]
    return [pattern for folder in folders for pattern in ignored(step, folder, ignore)]


def copied_modules(
    names: Sequence[str], ignore: Sequence[str], *, whole: "bool | None"
) -> dict[str, str]:
    """Return each file's path in the source tree -> its SHA-256, for some modules."""
    if not context.is_local():
        return {}
    from homeport.contract.image import Step
    from homeport.sdk import location
    from homeport.sdk.files import source

    args = {"ignore": list(ignore), "whole": whole}
    step = Step(name="add_local_python_source", args=args, where=location.here())
    pairs = [pair for name in names for pair in source.module_files(name, step)]
    return _hashes((path, path.relative_to(base).as_posix()) for path, base in pairs)


def _include(
    path: Path, kind: str, lines_by_kind: dict[str, list[str]], above: tuple[Path, ...]
) -> None:
    if path in above:
        raise InvalidError(f"`{path}` includes itself")
    for line in text(path).splitlines():
        option, _, argument = line.strip().partition(" ")
        if "=" in option and option.startswith("--"):
            option, _, argument = line.strip().partition("=")
        included = path.parent / argument.partition(" #")[0].strip()
        if option in INCLUDES:
            _include(included, kind, lines_by_kind, (*above, path))
        elif option in CONSTRAINS:
            _include(included, "constraints", lines_by_kind, (*above, path))
        else:
            lines_by_kind[kind].append(line)


def _hashes(files: Iterable[tuple[Path, str]]) -> dict[str, str]:
    if not context.is_local():
        return {}
    from homeport.sdk.files import source

    hashes = {}
    for path, remote in files:
        source.check_name(remote, path)
        hashes[source.place_of(remote)] = source.digest(path)
    return hashes
