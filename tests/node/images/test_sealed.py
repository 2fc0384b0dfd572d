"""Packages that attack while they are installed: by the build of a source distribution, and by a `.pth` file."""

import ast
from pathlib import Path

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.contract.supplies import Supplies
from homeport.node.images import uv, wheels
from homeport.node.images.environments import Environments
from tests import isolation, packages

SLIM = Step(name="debian_slim")
#: Spoil each copy of a package's module that can be found; say where they were.
SPOIL = """
import os
found["tried"] = []
for folder, directories, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        directories.clear()
    if "homeport_prey.py" in files:
        path = os.path.join(folder, "homeport_prey.py")
        found["tried"].append(path)
        try:
            {act}
            with open(path, "w") as file:
                file.write("SPOILT = True")
        except OSError:
            pass
"""


def install(*names: str) -> Step:
    return Step(name="uv_pip_install", args={"packages": list(names)}, where="app.py:3")


class House:
    """A home's images, built in cells, and an index of packages."""

    def __init__(self, path: Path) -> None:
        self.index = path / "index"
        self.index.mkdir()
        self.images = Environments(path / "environments", rooted=True)
        self.source = path / "revisions" / "rv-1"
        self.source.mkdir(parents=True)
        self.supplies = Supplies()

    async def make(self, *steps: Step) -> Path:
        """Build an image; return the directory of its packages."""
        image = Image(steps=(SLIM, *steps))
        await self.images.make(image, str(self.source), self.supplies, lambda _line: None)
        made = self.images.of(image)
        return next(made.directory.glob("venv/lib/python*/site-packages"))

    def found(self, packages_: Path, name: str) -> dict[str, object]:
        """What the code of a source distribution has found out."""
        text = (packages_ / f"{name}.py").read_text()
        return ast.literal_eval(text.removeprefix("found = "))


@pytest.fixture(params=["overlay", pytest.param("copy", marks=pytest.mark.soak)])
def house(request, tmp_path, monkeypatch):
    isolation.needed()
    house = House(tmp_path)
    house.images.has_overlay = request.param == "overlay"
    monkeypatch.setenv("UV_FIND_LINKS", str(house.index))
    return house


async def test_a_packages_build_sees_nothing_of_this_machine(house, tmp_path):
    (tmp_path / "key").write_text("of this machine")
    code = f"""
import os
for name, act in (("read", lambda: open({str(tmp_path / "key")!r}).read()),
                  ("shadow", lambda: open("/etc/shadow").read()),
                  ("wrote", lambda: open({str(tmp_path / "escaped")!r}, "w").write("x"))):
    try:
        found[name] = act()
    except OSError as error:
        found[name] = type(error).__name__
"""
    packages.sdist(house.index, "homeport_spy", code)
    found = house.found(await house.make(install("homeport_spy")), "homeport_spy")

    missing = "FileNotFoundError"
    assert {"read": missing, "shadow": missing, "wrote": 1} == found  # into a layer of its own
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("act", ["os.unlink(path)", "pass"], ids=["replace", "write into"])
async def test_a_packages_build_spoils_no_other_image(house, act):
    packages.wheel(house.index, "homeport_prey", {"homeport_prey.py": "SPOILT = False\n"})
    packages.wheel(house.index, "homeport_other", {"homeport_other.py": ""})
    packages.sdist(house.index, "homeport_thief", SPOIL.format(act=act))
    first = await house.make(install("homeport_prey"))
    theirs = await house.make(install("homeport_prey"), install("homeport_thief"))
    later = await house.make(install("homeport_other", "homeport_prey"))

    tried = house.found(theirs, "homeport_thief")["tried"]
    assert str(theirs / "homeport_prey.py") in tried
    assert house.images.has_overlay == any(path.startswith(wheels.PLACE) for path in tried)
    assert "SPOILT = False\n" == (first / "homeport_prey.py").read_text()
    assert "SPOILT = False\n" == (later / "homeport_prey.py").read_text()


async def test_a_pth_file_of_a_package_never_runs_on_this_machine(house, tmp_path):
    escaped = tmp_path / "escaped"
    line = f"import os; os.path.isdir({str(tmp_path)!r}) and open({str(escaped)!r}, 'a').close()"
    packages.wheel(
        house.index, "homeport_early", {"homeport_early.pth": line, "homeport_early.py": ""}
    )
    packages.wheel(house.index, "homeport_other", {"homeport_other.py": ""})
    made = await house.make(install("homeport_early"), install("homeport_other"))

    assert (made / "homeport_early.pth").exists()
    assert (made / "homeport_other.py").exists()
    assert not escaped.exists()


async def test_without_overlayfs_a_step_changes_a_copy(house):
    house.images.has_overlay = False
    packages.wheel(house.index, "homeport_prey", {"homeport_prey.py": ""})
    packages.wheel(house.index, "homeport_other", {"homeport_other.py": ""})
    one = await house.make(install("homeport_prey"))
    two = await house.make(install("homeport_prey"), install("homeport_other"))

    assert (one / "homeport_prey.py").stat().st_ino == (two / "homeport_prey.py").stat().st_ino
    assert (two / "homeport_other.py").exists()


async def test_uv_may_write_its_lock_while_it_reads_a_project(house):
    packages.wheel(house.index, "homeport_prey", {"homeport_prey.py": ""})
    project = (
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["homeport_prey"]\n'
    )
    made = await house.make(Step(name="uv_sync", args={"pyproject": project}, where="app.py:3"))

    assert (made / "homeport_prey.py").exists()


async def test_an_interpreter_that_a_package_replaces_is_an_error(house):
    code = """
import os
for folder, directories, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        directories.clear()
    if folder.endswith("/venv/bin"):
        os.unlink(f"{folder}/python")
        open(f"{folder}/python", "w").write("#!/bin/sh")
"""
    packages.sdist(house.index, "homeport_usurper", code)
    with pytest.raises(ImageError, match="own file `bin/python`") as refused:
        await house.make(install("homeport_usurper"))

    assert "app.py:3" == refused.value.where


async def test_a_later_step_replaces_what_an_earlier_one_installed(house):
    packages.wheel(
        house.index, "homeport_prey", {"homeport_prey.py": "VERSION = 1\n", "old/gone.py": ""}
    )
    one = await house.make(install("homeport_prey"))
    packages.wheel(house.index, "homeport_prey2", {"homeport_prey.py": "VERSION = 2\n"})
    two = await house.make(install("homeport_prey"), install("homeport_prey2"))

    assert "VERSION = 1\n" == (one / "homeport_prey.py").read_text()
    assert "VERSION = 2\n" == (two / "homeport_prey.py").read_text()
    assert (one / "old/gone.py").stat().st_ino == (two / "old/gone.py").stat().st_ino


@pytest.mark.parametrize("version", ["/tmp/python", "./python", "3.12; true", "python"])
async def test_a_text_that_is_no_version_of_python_never_starts_a_program(version):
    with pytest.raises(ImageError, match="is not a version of Python"):
        await uv.python(version, "app.py:2")
