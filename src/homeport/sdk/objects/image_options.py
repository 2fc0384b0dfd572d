"""The arguments of an `Image`'s steps: their types, and a check of their names.

A step keeps all its keywords, and the node reads those that it knows. Without this check, a misspelt
keyword would have no effect and no error.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypedDict

from homeport.sdk.exception import InvalidError, MisuseError
from homeport.sdk.objects.secret import Secret


class Build(TypedDict, total=False):
    """The keywords of every step that builds something."""

    env: Mapping[str, str | None] | None  # variables that only this step sees
    secrets: Collection[Secret] | None
    gpu: str | Sequence[str] | None
    force_build: bool


class Fetch(Build, total=False):
    """The keywords of steps that fetch packages from an index."""

    index_url: str | None
    extra_index_url: str | Sequence[str] | None
    pre: bool
    extra_options: str  # more arguments for uv
    uv_version: str | None


class Install(Fetch, total=False):
    """The keywords of steps that install packages by name."""

    find_links: str | Sequence[str] | None


class Poetry(Build, total=False):
    """`poetry_install_from_file`."""

    with_: Sequence[str]
    without: Sequence[str]
    only: Sequence[str]
    poetry_version: str | None
    old_installer: bool


class UvSync(Build, total=False):
    """`uv_sync`."""

    groups: Sequence[str] | None
    extras: Sequence[str] | None
    extra_options: str
    uv_version: str | None


class Micromamba(Build, total=False):
    """`micromamba_install`."""

    spec_file: str | None
    channels: Sequence[str]


class Commands(Build, total=False):
    """`run_commands`."""

    volumes: Mapping[Any, Any] | None


class Dockerfile(Build, total=False):
    """`from_dockerfile` and `dockerfile_commands`."""

    context_dir: Any
    context_files: Mapping[str, str]
    context_mount: Any
    add_python: str | None
    build_args: Mapping[str, str]
    ignore: Any


class RunFunction(Commands, total=False):
    """`run_function`."""

    network_file_systems: Mapping[Any, Any]
    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    cloud: str | None
    region: str | Sequence[str] | None
    include_source: bool | None


class Registry(TypedDict, total=False):
    """The keywords of steps that begin with a container image."""

    setup_dockerfile_commands: Sequence[str]
    force_build: bool
    add_python: str | None


class Published(TypedDict, total=False):
    """`from_name`."""

    environment_name: str | None
    client: Any


OF_STEP: dict[str, type] = {
    "pip_install": Install,
    "uv_pip_install": Install,
    "pip_install_from_requirements": Fetch,
    "pip_install_from_pyproject": Install,
    "pip_install_private_repos": Install,
    "poetry_install_from_file": Poetry,
    "uv_sync": UvSync,
    "micromamba_install": Micromamba,
    "apt_install": Build,
    "run_commands": Commands,
    "dockerfile_commands": Dockerfile,
    "run_function": RunFunction,
    "from_registry": Registry,
    "from_gcp_artifact_registry": Registry,
    "from_aws_ecr": Registry,
    "from_dockerfile": Dockerfile,
    "from_name": Published,
}


def check(step: str, options: Mapping[str, Any]) -> None:
    """Raise `MisuseError` for a keyword that the step does not have, naming the nearest one."""
    allowed = OF_STEP[step].__annotations__ if step in OF_STEP else {}
    for name in options:
        if name not in allowed:
            import difflib

            near = difflib.get_close_matches(name, allowed, 1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise MisuseError(f"`Image.{step}` got an unexpected keyword argument `{name}`.{hint}")


def strings(name: str, packages: Sequence[Any]) -> list[str]:
    """Return strings and lists of strings as one list."""
    texts: list[str] = []
    for package in packages:
        items = package if isinstance(package, (list, tuple)) else [package]
        if not all(isinstance(item, str) for item in items):
            raise InvalidError(f"`{name}` takes strings or lists of strings, not {package!r}")
        texts += items
    return texts


def check_repositories(repositories: Sequence[Any], secrets: Collection[Secret] | None) -> None:
    """Raise `InvalidError` for a repository that is not of GitHub or GitLab, and for a missing secret."""
    if not secrets:
        raise InvalidError(
            "No secrets provided to function. "
            "Installing private packages requires tokens to be passed via modal.Secret objects."
        )
    wrong = [
        repository
        for repository in repositories
        if not isinstance(repository, str)
        or not repository.startswith(("github.com/", "gitlab.com/"))
    ]
    if wrong:
        raise InvalidError(
            f"{len(wrong)} out of {len(repositories)} given repository refs are invalid. "
            f"Invalid refs: {wrong}. "
        )


def words(name: str, value: Any) -> list[str]:
    """Return the value if it is a list of strings; else raise `InvalidError`."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidError(f"`{name}` takes a list of strings")
    return value


def jsonable(value: Any) -> Any:
    """Return a keyword's value as the manifest has it: JSON, a path as text."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple, set)):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    return str(value) if isinstance(value, PurePath) else repr(value)
