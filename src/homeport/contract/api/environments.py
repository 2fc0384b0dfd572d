"""Environments and workspaces."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentInfo:
    """One environment of a workspace."""

    name: str
    web_suffix: str  # of the workspace in URLs; empty: none
    created_at: float  # 0 for one that always exists


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentList:
    """The environments of the caller's workspace, in the order of their names."""

    environments: tuple[EnvironmentInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentKey:
    """The environment of a request, with the key by which calls reach its functions."""

    workspace: str
    name: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEnvironment:
    """An environment to create."""

    name: str
    web_suffix: str | None = None  # null: the name


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentChange:
    """A change of an environment."""

    web_suffix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDeleted:
    """An environment, or a workspace, that was deleted."""

    containers: int  # how many were ended


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceInfo:
    """One workspace."""

    name: str
    slug: str  # that its URLs begin with
    environments: int  # how many it has
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceList:
    """The workspaces of the server, in the order of their names."""

    workspaces: tuple[WorkspaceInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkspace:
    """A workspace to create."""

    name: str
