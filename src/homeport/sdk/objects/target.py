"""The target of a call."""

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING

from homeport.contract import calls
from homeport.contract.dataclass import dataclass
from homeport.sdk.objects import environments

if TYPE_CHECKING:
    from homeport.contract.variants import Options


@dataclass(frozen=True)
class Target:
    """The function that a call is for."""

    app: str
    tag: str
    scope: str = ""
    environment: str = ""  # empty: this process's own
    key: str = field(default="", repr=False)  # of the environment; empty: it is looked up
    version: "int | None" = None
    query: str = ""  # class parameters, canonical
    is_named: bool = False  # it was looked up by `from_name`
    options: "Options | None" = None  # of `with_options`
    variant: str = ""  # their digest

    @property
    def endpoint(self) -> str:
        """The id of its endpoint."""
        return calls.endpoint_id(
            self.app,
            self.tag,
            key=self.key or environments.key(self.environment),
            scope=self.scope,
            version=self.version,
            variant=self.variant,
        )

    def varied(self, options: "Options | None") -> "Target":
        """Return the target with other options; None: these."""
        if options is None:
            return self
        return dataclasses.replace(self, options=options, variant=options.digest)
