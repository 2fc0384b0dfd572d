"""The scope of names: an environment of a workspace, as in Modal. A name is unique in its scope.

The setting `workspace` is something else: it is the first part of the URLs of the workspace `main`. A user may change it
at any time, and the rows in the database must not become invisible then.
"""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, order=True)
class Scope:
    """A workspace and an environment in it."""

    workspace: str = "main"
    environment: str = "main"

    def __str__(self) -> str:
        return f"{self.workspace}/{self.environment}"


MAIN = Scope()
#: The apps of homeport itself, such as the dashboard. No workspace of users can have its name.
SYSTEM = Scope(".homeport", "main")
