"""Replaces the names of Modal that homeport does not have yet.

`from modal.runner import deploy_app` works; any use of `deploy_app` raises an error that says what to use instead.
"""

from typing import Any

from homeport.sdk.exception import UnimplementedError

_SANDBOX = (
    "run the code in a function and call it with `.remote()`: each container is isolated, and `timeout=` "
    "limits the call. In a container, `subprocess` runs commands"
)
_COMMAND = "use the command `homeport {}`"
#: A name -> what to use instead. docs/guides/modal.md has the same table.
INSTEAD = {
    "Sandbox": _SANDBOX,
    "SandboxSnapshot": _SANDBOX,
    "Probe": _SANDBOX,
    "Client": "leave `client=` out: homeport's objects make their own connection",
    "Cluster": 'a container runs on one machine: use one function with more GPUs, such as `gpu="H100:2"`',
    "clustered": 'a container runs on one machine: use one function with more GPUs, such as `gpu="H100:2"`',
    "sessioned": (
        "send the field `Modal-Session-ID` with each request: requests with the same value go to the same "
        "container while it takes requests"
    ),
    "Workspace": "leave it out: a script's workspace is that of the token it is deployed with",
    "Proxy": "leave `proxy=` out: containers go out by this machine's own address",
    "SchedulerPlacement": "leave it out, or name a region: `region=` of `@app.function` chooses machines",
    "Service": "use `modal.Cls.from_name`",
    "interact": "call the function with `.local()` under a debugger, or print into the log",
    "deploy_app": _COMMAND.format("deploy"),
    "run_app": _COMMAND.format("run"),
    "serve_app": _COMMAND.format("serve"),
    "interactive_shell": _COMMAND.format("image shell"),
    "list_deployed_apps": _COMMAND.format("app list --json"),
    "get_app_objects": _COMMAND.format("app list --json"),
    "stop_app": _COMMAND.format("app stop"),
    "stop_fetching_inputs": "give the function `single_use_containers=True`, or raise an exception",
    "get_local_input_concurrency": "keep the number of `@modal.concurrent` in a variable of the script",
    "set_local_input_concurrency": "choose the number with `@modal.concurrent(max_inputs=…)`",
}
#: Names of the module `modal` that are in none of homeport's own modules.
NAMES = frozenset({"Probe", "SandboxSnapshot", "SchedulerPlacement", "Service"})


def error(name: str, owner: str = "") -> UnimplementedError:
    """Return the error for the use of a name; `owner` is the key in `INSTEAD`, if that is another name."""
    instead = INSTEAD.get(owner or name)
    return UnimplementedError(
        f"`{name}` is not there yet in homeport" + (f": {instead}" if instead else "")
    )


class NotThereYet:
    """A name that can be imported but not used."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise error(self.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # `inspect` looks for some
            raise AttributeError(name)
        raise error(f"{self.__name__}.{name}", self.__name__)

    def __mro_entries__(self, _bases: "tuple[Any, ...]") -> "tuple[type, ...]":
        raise error(self.__name__)

    def __repr__(self) -> str:
        return f"<{self.__name__}, which is not there yet in homeport>"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return NotThereYet(name)
