"""The target of a call."""

from dataclasses import dataclass

from homeport.contract import calls


@dataclass(frozen=True)
class Target:
    """The function that a call is for."""

    app: str
    tag: str
    scope: str = ""
    environment: str = "main"
    version: "int | None" = None
    query: str = ""  # class parameters, canonical
    is_named: bool = False  # it was looked up by `from_name`

    @property
    def endpoint(self) -> str:
        """The id of its endpoint."""
        return calls.endpoint_id(
            self.app,
            self.tag,
            scope=self.scope,
            environment=self.environment,
            version=self.version,
        )
