"""Makes `import modal` and its submodules import homeport, also if the real package is installed."""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

#: Submodule of Modal -> homeport's module.
SUBMODULES = {
    "app": "objects.app",
    "billing": "pending",
    "call_graph": "pending",
    "client": "objects.pending",
    "cloud_bucket_mount": "objects.pending",
    "cls": "objects.cls",
    "config": "config",
    "container_process": "pending",
    "dict": "objects.dict",
    "environments": "objects.environment",
    "exception": "exception",
    "experimental": "experimental",
    "file_io": "pending",
    "file_pattern_matcher": "files.patterns",
    "functions": "objects.function",
    "gpu": "objects.gpu",
    "image": "objects.image",
    "io_streams": "pending",
    "mount": "pending",
    "network_file_system": "objects.pending",
    "object": "pending",
    "output": "context",
    "partial_function": "objects.partial",
    "proxy": "objects.pending",
    "queue": "objects.queue",
    "retries": "objects.resources",
    "runner": "pending",
    "sandbox": "objects.pending",
    "schedule": "objects.resources",
    "scheduler_placement": "pending",
    "secret": "objects.secret",
    "server": "objects.server",
    "snapshot": "pending",
    "stream_type": "pending",
    "types": "pending",
    "volume": "objects.volume",
}


def install() -> None:
    """Make `import modal` import homeport in this process."""
    import homeport

    if sys.modules.get("modal") is homeport and any(isinstance(f, _Finder) for f in sys.meta_path):
        return  # after a fork, looking at every module's name would unshare its page
    for name in [name for name in sys.modules if name == "modal" or name.startswith("modal.")]:
        if sys.modules[name] is not homeport:
            del sys.modules[name]
    sys.modules["modal"] = homeport
    sys.meta_path[:] = [_Finder(), *(f for f in sys.meta_path if not isinstance(f, _Finder))]


def submodule(name: str) -> ModuleType:
    """Return homeport's module for `modal.<name>`."""
    return importlib.import_module(f"homeport.sdk.{SUBMODULES[name]}")


class _Finder:
    """Finds `modal.<name>` among our modules.

    The import system asks for these methods by name. The base classes in `importlib.abc` would add 5 to 9 ms to each start.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("modal."):
            return None
        name = fullname.removeprefix("modal.")
        if name not in SUBMODULES:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: inside homeport `modal` is homeport, "
                "which has no such module",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, self)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = submodule(spec.name.removeprefix("modal."))
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = (
            self._own_spec
        )  # the import system has replaced it by the spec of `modal.…`


if __name__ == "__mp_main__":  # in a process of `multiprocessing`: see runner/setup.py
    importlib.import_module("homeport.sdk.alias").install()
