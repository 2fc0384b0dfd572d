"""homeport: turn a Python function into a web endpoint, on machines you own.

The public names, loaded on first use, so that importing homeport costs next to nothing. In any
script that homeport loads, `import modal` is this module.
"""

TYPE_CHECKING = False  # `typing` takes 25 ms, in which Ctrl-C would print a traceback of `homeport`
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "objects.app": ("App",),
    "objects.call": ("FunctionCall",),
    "objects.cls": ("Cls",),
    "context": (
        "current_function_call_id", "current_input_id", "enable_output", "interact",
        "is_local",
    ),
    "objects.dict": ("Dict",),
    "objects.environment": ("Environment",),
    "exception": ("Error",),
    "objects.function": ("Function",),
    "objects.image": ("Image",),
    "objects.lifecycle": ("batched", "concurrent", "enter", "exit", "method"),
    "files.patterns": ("FilePatternMatcher",),
    "pending": ("clustered", "sessioned"),
    "objects.parameters": ("parameter",),
    "objects.resources": ("Cron", "Period", "Retries"),
    "objects.queue": ("Queue",),
    "objects.secret": ("Secret",),
    "objects.pending": (
        "Client", "CloudBucketMount", "Cluster",
        "NetworkFileSystem", "Proxy", "Sandbox", "Workspace",
    ),
    "objects.server": ("Server",),
    "objects.tunnel": ("Tunnel", "forward"),
    "objects.volume": ("Volume",),
    "objects.web": ("asgi_app", "fastapi_endpoint", "web_endpoint", "web_server", "wsgi_app"),
}  # fmt: skip
#: Modules that our own code imports by `from homeport import wire`, which asks here first: what follows costs 5 to 12 ms.
_OWN = frozenset({"beneath", "private", "removing", "settings", "signing", "wire"})
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 - all of them are strings


def __getattr__(name: str) -> "Any":
    import importlib

    if name == "__version__":
        try:
            from homeport._version import __version__  # made by the build, from git's tags
        except ImportError:
            return "0+unknown"  # a source tree without a build
        return __version__
    if name in _OWN:
        return importlib.import_module(f"homeport.{name}")
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"homeport.sdk.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    from homeport.sdk import alias, gone

    gone.of_module(name)
    from homeport.sdk import pending

    if name in pending.NAMES:
        return pending.NotThereYet(name)
    if name in alias.SUBMODULES and not name.startswith("_"):
        return alias.submodule(name)
    import difflib

    near = difflib.get_close_matches(name, _HOME_OF, 1)
    hint = f". Did you mean `{near[0]}`?" if near else ""
    raise AttributeError(f"module 'homeport' has no attribute '{name}'{hint}")


def __dir__() -> list[str]:
    return __all__
