"""The scope of names: an environment of a workspace, as in Modal. A name is unique in its scope.

Today everything is in MAIN. The setting `workspace` is not this: it is the first part of each URL. A user may
change it at any time, and rows must not become invisible by that.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A workspace and an environment in it."""

    workspace: str = "main"
    environment: str = "main"

    @property
    def folder(self) -> Path:
        """Below a folder of files by app; that of MAIN is the folder itself, as it always was."""
        return Path() if self == MAIN else Path(self.workspace, self.environment)


MAIN = Scope()
