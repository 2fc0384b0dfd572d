"""Loads a user's script or module, in which `import modal` imports homeport.

`declare` calls it on the user's machine, and the runner in a container.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from homeport.sdk import alias


def load_script(path: Path, reads: type[SourceFileLoader] = SourceFileLoader) -> ModuleType:
    """Run a script as a module with the name of its file; its directory is first on `sys.path`.

    `reads` is the loader of its file.
    """
    alias.install()
    directory = str(path.parent)
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)
    loader = reads(path.stem, str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem, None)
        raise
    return module


def load_module(
    module: str, source: str, reads: type[SourceFileLoader] = SourceFileLoader
) -> ModuleType:
    """Import a module of the source tree, also if a standard module has the same name."""
    script = Path(source) / f"{module}.py"
    if "." not in module and script.is_file():
        return load_script(script, reads)
    alias.install()
    if source not in sys.path[:1]:
        sys.path.insert(0, source)
    return importlib.import_module(module)
