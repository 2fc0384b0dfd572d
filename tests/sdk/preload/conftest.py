"""A process that has preloaded modules, for the tests of this folder."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HARNESS = """
import importlib, json, os, sys, warnings, logging
sys.path.insert(0, {site!r})
from homeport.sdk.preload.recorder import Recorder
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf

shelf, unsafe = Shelf(), ""
recorder = Recorder(shelf, source={source!r})
for names in {preload!r}:
    unsafe = unsafe or recorder.load(*names)
shelf.settle({source!r})
shelf.prepare()
shelf.repeat, shelf.looks = repeat, lambda name: None

def say(value):
    print(json.dumps(value), flush=True)
    os._exit(0)

shelf.changed = lambda reason, modules: say({{"changed": reason, "modules": sorted(modules)}})
if unsafe:
    say({{"unsafe": unsafe}})
sys.path.insert(0, {source!r})
os.chdir({source!r})
shelf.at_home({source!r})
"""


@pytest.fixture
def box(tmp_path):
    """A folder of packages, a folder of the user's, and a process that has preloaded some."""
    return Box(tmp_path)


class Box:
    """See `box`."""

    def __init__(self, root):
        self.site, self.source = root / "site", root / "source"
        self.site.mkdir()
        self.source.mkdir()

    def install(self, **modules):
        """`a__b` is the module `a.b`; a name that others begin with is a package."""
        for name, text in modules.items():
            parts = name.split("__")
            package = any(other.startswith(f"{name}__") for other in modules)
            folder = self.site.joinpath(*parts[: None if package else -1])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / ("__init__.py" if package else f"{parts[-1]}.py")
            path.write_text(textwrap.dedent(text))

    def run(self, preload, script, *, together=False, **environ):
        """Run a script after the modules were preloaded; return what it prints."""
        steps = [preload] if together else [[name] for name in preload]
        before = HARNESS.format(site=str(self.site), source=str(self.source), preload=steps)
        with open(self.site.parent / "output", "w+") as output:  # a file, as zygotes print to one
            subprocess.run(
                [sys.executable, "-c", before + textwrap.dedent(script)],
                stdout=output,
                stderr=output,
                timeout=60,
                cwd=self.site.parent,
                env={"PATH": os.environ["PATH"], **environ},
                check=False,
            )
            output.seek(0)
            told = output.read()
        try:
            return json.loads(told.splitlines()[-1])
        except (ValueError, IndexError):
            raise AssertionError(told) from None
