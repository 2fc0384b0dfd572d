"""Images with root file systems, from a registry of the tests."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.contract.supplies import BuildSecret, Supplies
from homeport.node.images.environments import Environments
from tests import isolation, registries

WHERE = "app.py:7"


class House:
    """A home's images, a source tree, and the lines that the builds have printed."""

    def __init__(self, path: Path) -> None:
        self.home = path
        self.root = path / "environments"
        self.images = Environments(self.root, rooted=True)
        self.source = path / "revisions" / "rv-1"
        self.source.mkdir(parents=True)
        self.given = path / "revisions" / "rv-1.build"
        self.given.mkdir()
        self.said: list[str] = []
        self.secrets: dict[str, str] = {}

    @property
    def supplies(self) -> Supplies:
        return Supplies(secrets=(BuildSecret(name="secret", values=self.secrets),))

    async def make(self, *steps: Step):
        """Build the image; each step sees the secrets, unless it names others."""
        if self.secrets:
            steps = tuple(
                dataclasses.replace(each, args={"secrets": [0], **each.args}) for each in steps
            )
        image = Image(steps=steps)
        await self.images.make(image, str(self.source), self.supplies, self.said.append)
        return self.images.of(image)

    async def fails(self, *steps: Step) -> ImageError:
        with pytest.raises(ImageError) as caught:
            await self.make(*steps)
        return caught.value

    def seen(self, made, path: str) -> Path:
        """Return the file at this path in the uppermost layer that has it."""
        for lower in reversed(made.lowers):
            found = Path(lower) / path.lstrip("/")
            if found.is_symlink() or found.exists():
                return found
        raise FileNotFoundError(path)

    def text(self, made, path: str) -> str:
        return self.seen(made, path).read_text()

    def half(self) -> list[Path]:
        """Return directories that are not finished layers."""
        return [d for d in self.root.glob("*") if not (d / "record.json").exists()]


def step(name: str, **args) -> Step:
    return Step(name=name, args=args, where=WHERE)


def commands(*told: str, **args) -> Step:
    return step("run_commands", commands=list(told), **args)


@pytest.fixture(scope="session")
def able() -> None:
    isolation.needed()


@pytest.fixture
def house(able, tmp_path):
    house = House(tmp_path / "home")
    yield house
    # Files of other ids, where the tests' user is an ordinary one.
    for directory in house.root.glob("*"):
        from homeport.node.images import store

        store.remove(directory)


@pytest.fixture(scope="session")
def registry(able, tmp_path_factory):
    with registries.running(tmp_path_factory.mktemp("registry") / "r") as running:
        yield running


@pytest.fixture(scope="session")
def system() -> bytes:
    """Make a layer with a shell and this machine's Python."""
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the tests' images have /usr/bin/python3 of this machine, and there is none")
    subprocess.run(["/usr/bin/python3", "-c", ""], check=True)
    return registries.system()


@pytest.fixture(scope="session")
def base(registry, system) -> Step:
    """Return a first step that pulls a small system."""
    return step("from_registry", tag=registry.push("base:1", [system], Env=["PATH=/usr/bin:/bin"]))
