"""Poetry itself, from the index of packages, and a project whose packages come from an index of the test."""

import functools
import http.server
from pathlib import Path

import pytest

from homeport.contract.image import Step
from tests import packages, web

from .conftest import commands, step

VERSION = "2.1.4"  # a later one needs no test of its own, and its packages are not fetched again
PROJECT = """
[tool.poetry]
name = "shop"
version = "0.1.0"
description = ""
authors = []
package-mode = false

[tool.poetry.dependencies]
python = ">=3.10,<4"
homeport-usual = "^1"

[tool.poetry.group.web.dependencies]
homeport-web = "^1"

[tool.poetry.group.dev.dependencies]
homeport-dev = "^1"

[[tool.poetry.source]]
name = "here"
url = "{index}"
priority = "primary"
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def index(tmp_path):
    """An index (PEP 503) with three packages; the result is its address."""
    for name in ("homeport_usual", "homeport_web", "homeport_dev"):
        page = tmp_path / "simple" / name.replace("_", "-")
        page.mkdir(parents=True)
        wheel = packages.wheel(page, name, {f"{name}.py": ""})
        (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with web.served(handler) as server:
        yield f"http://127.0.0.1:{server.server_port}/simple/"


@pytest.fixture
def project(index) -> Step:
    return step(
        "poetry_install_from_file",
        pyproject=PROJECT.format(index=index),
        poetry_version=VERSION,
        with_=["web"],
        without=["dev"],
    )


@pytest.mark.soak  # Poetry has 50 packages
async def test_poetry_resolves_a_project_and_its_packages_are_the_images(house, base, project):
    made = await house.make(
        base,
        project,
        commands("python -c 'import homeport_usual, homeport_web; print(homeport_web.__file__)'"),
        commands("! python -c 'import homeport_dev'"),
    )

    told = next(line for line in house.said if "homeport_web.py" in line)
    assert "/run/" not in told  # in the image's own Python
    left = [p for lower in made.lowers[1:] for p in Path(lower).rglob("*poetry*")]
    assert [] == left  # neither Poetry nor its caches
