"""Finds changes that an import has made in standard modules, each with the module that made it.

`typing_extensions` replaces private functions of `typing`, `loky` adds a context to `multiprocessing`.
The recorder undoes such a change, and it is made again when its author is handed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.sdk.preload.effects import MISSING, ModuleState, Snapshot
from homeport.sdk.preload.record import Record

#: Attributes that a known module adds to standard modules -> that module.
ADDS = {
    "logging.statistics": "cheroot.server",
    "sys._torch_import_started": "torch",
    "urllib.parse.uses_netloc": "werkzeug.urls",
}


@dataclass(frozen=True)
class Patch:
    """A change of one value in a standard module, its classes, dictionaries or lists."""

    author: Record
    what: str  # the name of the event: patch, class, item, append
    holder: Any
    key: Any
    was: Any  # `MISSING` if there was no value
    new: Any

    def undo(self) -> None:
        """Put the old value back."""
        restore(self.what, self.holder, self.key, self.was)


def since(before: Snapshot, fresh: Mapping[str, Record]) -> Iterator[Patch]:
    """Yield the changes since a snapshot whose authors are in `fresh`, by the modules' names."""
    for state in before.standard():
        for author, *change in _changes(state, fresh):
            if author is not None:
                yield Patch(author, *change)


def restore(what: str, holder: Any, key: Any, was: Any) -> None:
    """Undo one change of a holder."""
    if what == "append":
        holder.remove(key)
    elif what == "class" and was is MISSING:
        delattr(holder, key)
    elif what == "class":
        setattr(holder, key, was)
    elif was is MISSING:
        holder.pop(key, None)
    else:
        holder[key] = was


def _changes(
    state: ModuleState, fresh: Mapping[str, Record]
) -> "Iterator[tuple[Record | None, str, Any, Any, Any, Any]]":
    for key, was, new in state.patched():
        author = _author(new, fresh) or fresh.get(ADDS.get(f"{state.name}.{key}", ""))
        yield author, "patch", vars(state.module), key, was, new
    classes = list(state.patched_classes())
    authors = {cls: _author(new, fresh) for cls, _, _, new in classes if _author(new, fresh)}
    for cls, key, was, new in classes:
        # The original that it saved in a class has another author: `_orig___repr__`.
        yield authors.get(cls), "class", cls, key, was, new
    for mapping, key, value in state.added():
        yield _author(value, fresh), "item", mapping, key, MISSING, value
    for key, items, new in state.longer():
        author = fresh.get(ADDS.get(f"{state.name}.{key}", ""))
        for item in new:
            yield author, "append", items, item, MISSING, item


def _author(value: Any, fresh: Mapping[str, Record]) -> "Record | None":
    """Return the module that has made a value, if it is in `fresh`; else None."""
    for thing_made in (value, type(value)):
        name = getattr(thing_made, "__module__", None)
        if isinstance(name, str) and name in fresh:
            return fresh[name]
    return None
