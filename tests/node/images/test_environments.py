"""Images built by the real uv, with small packages."""

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.contract import output
from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.contract.supplies import Supplies
from homeport.node.images import uv
from homeport.node.images.environments import Environments
from homeport.node.images.rooted import python as rooted_python

SLIM = Step(name="debian_slim")
SIX = Step(name="pip_install", args={"packages": ["six==1.17.0"]}, where="app.py:3")


def image(*steps: Step) -> Image:
    return Image(steps=(SLIM, *steps))


IDNA = Step(name="pip_install", args={"packages": ["idna"]})


def ask(built, code: str) -> str:
    """Return what the image's interpreter prints."""
    words = [built.python, "-I", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class House:
    """A home's images, a source tree, and the lines that the builds have printed."""

    def __init__(self, path: Path) -> None:
        self.root = path / "environments"
        self.environments = Environments(self.root)
        self.source = path / "revisions" / "rv-1"
        self.source.mkdir(parents=True)
        self.said: list[str] = []
        self.supplies = Supplies()

    async def make(self, wanted: Image):
        await self.environments.make(wanted, str(self.source), self.supplies, self.said.append)
        return self.environments.of(wanted)

    async def fails(self, wanted: Image) -> ImageError:
        with pytest.raises(ImageError) as failure:
            await self.make(wanted)
        return failure.value

    def half(self) -> list[Path]:
        """Return directories that are not finished images."""
        return [d for d in self.root.glob("*") if not (d / "record.json").exists()]


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


@pytest.fixture
def other_python() -> str:
    """Return the version of a second interpreter on this machine."""
    code = "import platform; print(platform.python_version())"
    for path in ("/usr/bin/python3.11", "/usr/bin/python3.12", "/usr/bin/python3.13"):
        if os.access(path, os.X_OK):
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True)
            if done.stdout.strip() != platform.python_version():
                return done.stdout.strip()
    pytest.skip("there is one Python here")


async def test_an_image_without_steps_is_the_interpreter_of_homeport(house):
    built = await house.make(Image(steps=(Step(name="env", args={"vars": {}}),)))

    assert "" == built.runner_path
    assert "homeport" == ask(built, "import homeport; print(homeport.__name__)")


async def test_packages_are_installed_once_and_none_of_ours_is_seen(house):
    built = await house.make(image(SIX))
    count = len(house.said)

    assert "1.17.0" == ask(built, "import six; print(six.__version__)")
    assert "None" == ask(built, "from importlib.util import find_spec as f; print(f('typer'))")
    assert any("six==1.17.0" in line for line in house.said)
    assert built == await house.make(image(SIX))
    assert count == len(house.said)


async def test_a_later_server_finds_what_was_built(house):
    built = await house.make(image(SIX))
    later = Environments(house.root)
    later.sweep()

    assert built == later.of(image(SIX))
    assert [("debian_slim", "pip_install six==1.17.0")] == [later.all()[0].steps]
    with pytest.raises(ImageError, match="the environment of this image was deleted"):
        later.of(image(IDNA))


async def test_files_of_an_interrupted_build_are_swept(house):
    built = await house.make(image())
    (house.root / "abc" / "venv").mkdir(parents=True)
    house.environments.sweep()

    assert [] == house.half()
    assert built.directory.exists()


async def test_a_package_that_is_not_there_is_named_with_its_place(house):
    nowhere = Step(name="uv_pip_install", args={"packages": ["six==0.0.77"]}, where="app.py:5")
    failure = await house.fails(image(nowhere))

    assert failure.message.startswith("`uv_pip_install` failed: Because there is no version of six")
    assert "\n" not in failure.message
    assert "app.py:5" == failure.where
    assert "cause:" in failure.traceback
    assert [] == house.half()


async def test_images_of_two_python_versions_do_not_disturb_each_other(house, other_python):
    older = Image(steps=(Step(name="debian_slim", args={"python_version": other_python}), SIX))
    code = "import platform, six; print(platform.python_version())"

    assert platform.python_version() == ask(await house.make(image(SIX)), code)
    assert other_python == ask(await house.make(older), code)


async def test_a_python_of_pyenv_is_found_though_its_shim_says_no(monkeypatch, tmp_path):
    for version in ("3.99.9", "3.99.10", "3.9.99"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
        (tmp_path / "versions" / version / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    python = await uv.python("3.99", "script.py:1")
    assert str(tmp_path / "versions" / "3.99.10" / "bin" / "python") == python.path


async def test_a_python_that_uv_cannot_download_is_an_error_with_the_line(house):
    args = {"python_version": "3.99"}
    failure = await house.fails(
        Image(steps=(Step(name="debian_slim", args=args, where="app.py:2"),))
    )

    assert failure.message.startswith("there is no Python 3.99 here, and uv cannot download it: ")
    assert "app.py:2" == failure.where
    assert "`uv python install 3.99`" in failure.hint


async def test_a_python_that_this_machine_lacks_is_downloaded_into_the_home(
    house, other_python, monkeypatch
):
    downloads = []

    async def nowhere(_wanted, _where):
        return None

    async def standalone(version, keep, _where):
        downloads.append((version, keep))
        (keep / "bin").mkdir(parents=True)
        minor = ".".join(other_python.split(".")[:2])
        (keep / "bin" / "python3").symlink_to(f"/usr/bin/python{minor}")
        return keep, ""

    monkeypatch.setattr(uv, "python", nowhere)
    monkeypatch.setattr(rooted_python, "standalone", standalone)
    wanted = Image(steps=(Step(name="debian_slim", args={"python_version": other_python}), SIX))
    version = ask(await house.make(wanted), "import platform; print(platform.python_version())")

    assert other_python == version
    assert [(other_python, house.root.parent / "pythons")] == downloads
    assert any(f"no Python {other_python}, so uv downloads it" in line for line in house.said)


def test_uv_is_told_where_to_download_interpreters_from():
    mirror = {"UV_PYTHON_INSTALL_MIRROR": "https://mirror.example/python"}

    assert mirror.items() <= uv.environ({**mirror, "UV_PYTHON": "3.9"}).items()
    assert "UV_PYTHON" not in uv.environ({**mirror, "UV_PYTHON": "3.9"})


async def test_a_container_finds_aiohttp_which_modal_has_in_each_image(house):
    built = await house.make(image(SIX))
    code = f"import sys; sys.path.append({built.runner_path!r}); import aiohttp; print(aiohttp.__name__)"

    assert "aiohttp" == ask(built, code)


@pytest.mark.parametrize("name", ["apt_install", "run_commands", "from_registry"])
async def test_a_root_file_system_without_isolation_is_an_error_that_says_what_to_do(house, name):
    step = Step(name=name, args={"packages": ["a"], "commands": ["true"]}, where="app.py:4")
    failure = await house.fails(image(step))

    assert f"`{name}` needs a root file system" in failure.message
    assert "app.py:4" == failure.where
    assert "HOMEPORT_ISOLATION=auto" in failure.hint
    assert [] == house.half()


async def test_prune_keeps_what_an_image_is_made_of(house):
    kept = image(SIX)
    await house.make(kept)
    await house.make(image(SIX, IDNA))
    gone = await house.environments.prune([kept])

    assert ["pip_install idna"] == [environment.steps[-1] for environment in gone]
    assert {"pip_install six==1.17.0", "debian_slim"} == {
        environment.steps[-1] for environment in house.environments.all()
    }
    assert "1.17.0" == ask(await house.make(kept), "import six; print(six.__version__)")
    assert 2 == len(await house.environments.prune([]))
    assert [] == list(house.root.iterdir())


async def test_images_that_share_an_environment_are_each_remembered_and_never_pruned(house):
    words = [Step(name="env", args={"vars": {"A": str(number)}}) for number in range(5)]
    images = [image(SIX, word) for word in words]
    *_, gone = await asyncio.gather(
        *(house.make(wanted) for wanted in images), house.environments.prune([])
    )
    later = Environments(house.root)

    assert [] == list(gone)
    assert 1 == len({later.of(wanted).key for wanted in images})
    assert [] == list(await later.prune(images[:1]))


async def test_a_requirements_file_and_a_project_are_installed(house):
    listed = Step(
        name="pip_install_from_requirements",
        args={"requirements": "six # small\n", "constraints": "six<1.17"},
    )
    project = (
        '[project]\nname = "p"\nversion = "1"\n[project.optional-dependencies]\nx = ["idna"]\n'
    )
    from_project = Step(
        name="pip_install_from_pyproject",
        args={"pyproject": project, "optional_dependencies": ["x"]},
    )
    built = await house.make(image(listed, from_project))

    assert "1.16.0" == ask(built, "import idna, six; print(six.__version__)")


async def test_uv_sync_installs_what_the_lock_says(house, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    text = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six==1.16.0"]\n'
    (project / "pyproject.toml").write_text(text)
    subprocess.run([*uv.command_words(), "lock", "--quiet"], cwd=project, check=True)
    lock = (project / "uv.lock").read_text()
    step = Step(name="uv_sync", args={"pyproject": text, "lockfile": lock, "frozen": True})
    built = await house.make(image(Step(name="pip_install", args={"packages": ["idna"]}), step))

    assert "1.16.0" == ask(built, "import idna, six; print(six.__version__)")
    assert "3" == ask(built, "import sys; print(sys.version_info[0])")


async def test_each_step_that_is_built_is_told_with_its_number(house):
    await house.make(image(SIX))
    first = [output.read_step(line) for line in house.said if line.startswith(output.STEP)]
    house.said.clear()
    await house.make(image(SIX, IDNA))
    later = [output.read_step(line) for line in house.said if line.startswith(output.STEP)]

    assert [(1, 2, "debian_slim", ""), (2, 2, "pip_install", "")] == first
    assert [(3, 3, "pip_install", "")] == later
