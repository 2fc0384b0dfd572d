"""Makes the manifest of an app in the process that declared it: for `app.run()` and `app.deploy()` in plain Python.

A script that Python runs is the module `__main__` here, and in its containers a module with the script's name. Both
names stand for the same module from then on, so that exceptions and values keep their types.
"""

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

from homeport.contract.dataclass import dataclass
from homeport.contract.declaring import Declared
from homeport.contract.errors import ScriptError
from homeport.sdk import values
from homeport.sdk.declare import __main__ as declaring
from homeport.sdk.objects.app import App

MAIN = "__main__"


@dataclass(frozen=True)
class Home:
    """The file of a user's module, and the directory that it is imported from."""

    module: ModuleType
    name: str  # in a container
    root: Path  # the directory that it is imported from

    @property
    def is_packaged(self) -> bool:
        """True for a module of a package."""
        return "." in self.name or hasattr(self.module, "__path__")


def declare(app: App, name: str = "") -> Declared:
    """Return the app's manifest and files; `ScriptError` if a container could not load it."""
    modules = dict.fromkeys(
        [f.partial.raw.__module__ for f in app.functions.values()]
        + [c.__module__ for c in app.classes.values()]
    )
    if not modules:
        modules = {MAIN: None}
    homes = {module: home(module) for module in modules}
    entry, *further = homes.values()
    for other_home in further:
        if other_home.root != entry.root:
            raise ScriptError(
                f"the app's functions are in modules of two directories: `{entry.name}` in {entry.root}, and "
                f"`{other_home.name}` in {other_home.root}",
                hint="put the modules into one directory, or one package",
            )
    declared = declaring.declare_loaded(
        app,
        entry.module,
        entry.root,
        name=name,
        unnamed=entry.name.rpartition(".")[2],
        is_package=entry.is_packaged,
    )
    if MAIN not in homes:
        return declared
    own = homes[MAIN]
    sys.modules.setdefault(own.name, own.module)
    values.name_main(own.name)
    functions = tuple(
        dataclasses.replace(function, module=own.name) if function.module == MAIN else function
        for function in declared.manifest.functions
    )
    manifest = dataclasses.replace(declared.manifest, functions=functions)
    return dataclasses.replace(declared, manifest=manifest)


def home(name: str) -> Home:
    """Return where a module is; `ScriptError` if it has no file that could be uploaded."""
    module = sys.modules[name]
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        raise ScriptError(
            "the app's functions are not in a file, so no container could load them",
            hint="write them into a Python file, and import it here",
        )
    path = Path(file).absolute()
    spec = module.__spec__
    if name == MAIN and spec is not None:  # `python -m shop.jobs`
        name = spec.name
    elif name == MAIN:
        if "." in path.stem:
            raise ScriptError(
                f"Invalid Modal source filename: '{path.name}'. "
                "Source filename cannot contain additional period characters."
            )
        return Home(module, path.stem, path.parent)
    depth = name.count(".") + (1 if hasattr(module, "__path__") else 0)
    return Home(module, name, path.parents[depth])
