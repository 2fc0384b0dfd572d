"""Finds the modules that an app's functions import when they are called, by reading the files' text.

The modules that a script imports while it is loaded are in `sys.modules` (`source.imported_below`). A
function may import more when it is called, and those modules must be uploaded with the script too.
"""

import ast
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from homeport.sdk.files import patterns


def imported_later(files: Iterable[Path], root: Path) -> set[Path]:
    """Return the modules below `root` that functions in these files import.

    `files` are loaded already, so imports at their top level are known. The modules found here are not
    loaded: all their imports count, and the imports of the modules that they import.
    """
    modules_found: set[Path] = set()
    todo = [(path, True) for path in files]
    while todo:
        path, loaded = todo.pop()
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if loaded and not _may_import_later(text):
            continue
        for folder, name in _imports(text, path, root, loaded=loaded):
            for module in _modules(folder, name):
                if module not in modules_found:
                    modules_found.add(module)
                    todo.append((module, False))
    return modules_found


def _may_import_later(text: bytes) -> bool:
    """Return False if all imports of a file begin a line: they have run when the file was loaded.

    Parsing a file takes 12 us a line, at each save; this check takes 0.2 us.
    """
    return any(
        b"import" in line and not line.startswith((b"import ", b"from "))
        for line in text.splitlines()
    )


def _imports(text: bytes, path: Path, root: Path, *, loaded: bool) -> Iterator[tuple[Path, str]]:
    """Yield the directory and dotted name of each imported name that may be a module."""
    for statement in _statements(text, but_the_top=loaded):
        if isinstance(statement, ast.Import):
            yield from ((root, alias.name) for alias in statement.names)
            continue
        if statement.level > len(path.parents):
            continue
        folder = path.parents[statement.level - 1] if statement.level else root
        if not folder.is_relative_to(root):
            continue
        for alias in statement.names:  # `b` in `from a import b` may be a module too
            yield folder, f"{statement.module}.{alias.name}" if statement.module else alias.name


def _statements(text: bytes, *, but_the_top: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield a file's import statements; none of a file that Python cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of `"\d"` when it reads it
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the container says so, if something imports it
    top = {id(statement) for statement in tree.body} if but_the_top else set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in top:
            yield node


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Yield the existing files that an import of a dotted name would load."""
    for part in name.split("."):
        if not part.isidentifier() or part in patterns.JUNK:
            return
        if (module := folder / f"{part}.py").is_file() and not (folder / part).is_dir():
            yield module
            return
        folder /= part
        if (package := folder / "__init__.py").is_file():
            yield package
