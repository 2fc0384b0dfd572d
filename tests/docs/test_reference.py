"""Each public name has a place and an explanation in the reference."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.generate import PAGES, source
from typer.testing import CliRunner

import homeport
from homeport.cli.main import COMMANDS, command_line
from homeport.contract import api, errors
from homeport.contract.api import events
from homeport.contract.api.deploys import Deploy
from homeport.contract.api.server import Status
from homeport.node.images.rooted import plan
from homeport.sdk.objects import options
from homeport.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Name of a page -> its Markdown."""
    return {Path(name).stem: page() for name, page in PAGES.items()}


def section(page: str, heading: str) -> str:
    """Return the text between a heading and the next one; fail if there is no such heading."""
    heading_and_text = re.search(
        rf"^#+ {re.escape(heading)}(?: \{{[^\n]*)?$(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert heading_and_text, f"no heading {heading!r}"
    return heading_and_text[1].strip()


def help_of(*words: str) -> str:
    """Return what `homeport … --help` prints."""
    done = CliRunner().invoke(command_line([]), [*words, "--help"], env={"COLUMNS": "200"})
    assert 0 == done.exit_code
    return done.output


@pytest.mark.parametrize("name", [name for name in homeport.__all__ if name != "__version__"])
def test_every_public_name_has_its_section(pages, name):
    assert section(pages["sdk"], f"`{name}`")


@pytest.mark.parametrize("cls", ["App", "Image", "Secret"])
def test_every_public_method_has_its_section(pages, cls):
    public = {
        name
        for name, value in vars(getattr(homeport, cls)).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, staticmethod))
    } - {"with_step"}

    assert public
    for name in public:
        assert section(pages["sdk"], f"`{cls}.{name}`")


@pytest.mark.parametrize("name", options.DEFAULTS)
def test_every_option_of_a_function_is_explained(pages, name):
    (row,) = re.findall(rf'^\| <span id="option-{name}">.*$', pages["sdk"], re.MULTILINE)
    meaning = row.split("|")[-2].strip()

    assert meaning.removesuffix("*Ignored.*").strip()
    assert (name in options.IGNORED) == meaning.endswith("*Ignored.*")


@pytest.mark.parametrize("step", plan.ELSEWHERE)
def test_an_image_step_that_is_not_there_yet_says_so(pages, step):
    assert "Not there yet" in section(pages["sdk"], f"`Image.{step}`")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_its_entry(pages, command):
    commands = re.findall(
        r"^│ ([a-z-]+) +", help_of(command).partition("Commands")[2], re.MULTILINE
    )
    for words in [(command,), *((command, name) for name in commands)]:
        help_text = help_of(*words)
        text = section(pages["cli"], " ".join(("homeport", *words)))
        flags = set(re.findall(r"(--[a-z-]+)", help_text.partition("Options")[2].partition("╰")[0]))

        assert ":   \n" not in f"{text}\n"
        for flag in flags - {"--help"}:
            assert re.search(rf"`{flag}`.*\n: +\S", text), f"{words} {flag}"


@pytest.mark.parametrize(
    "name", [f.name for f in dataclasses.fields(Settings) if f.name != "given"]
)
def test_every_setting_has_its_section(pages, name):
    text = section(pages["settings"], f"`{name}`")

    assert f"`HOMEPORT_{name.upper()}`" in text
    assert "- Default: " in text
    assert not text.startswith("- ")


def test_every_kind_of_error_has_its_section(pages):
    kinds = [errors.Failure, *errors.Failure.__subclasses__()]

    for kind in kinds:
        assert f"HTTP status {kind.status}." in section(pages["errors"], f"`{kind.__name__}`")


def test_every_route_has_its_section_and_nothing_else_has(pages):
    text = "".join(p.read_text() for p in (ROOT / "src/homeport/control").rglob("*.py"))
    routes_found = re.findall(r'^    @route\("(\w+)", "([^"]+)"(?:, .+)?\)$', text, re.MULTILINE)
    routes = {f"{method} {path}" for method, path in routes_found}

    assert routes == set(re.findall(r"^## `([A-Z]+ .+)`$", pages["api"], re.MULTILINE))
    for route in routes:
        assert re.match(r"[A-Z].*\.\n", section(pages["api"], f"`{route}`"))


def test_every_type_of_the_contract_has_its_section_with_every_field(pages):
    names = [module.name for module in pkgutil.iter_modules(api.__path__, f"{api.__name__}.")]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    types = [value for value in values if dataclasses.is_dataclass(value)]

    assert {Status, Deploy, events.Error} <= set(types)
    for cls in types:
        text = section(pages["api"], f"`{cls.__name__}`")

        assert cls.__doc__
        for field in dataclasses.fields(cls):
            assert f"| `{field.name}` |" in text


def test_every_link_within_the_page_of_the_api_leads_somewhere(pages):
    headings = re.findall(r"^###? `(\w+)`$", pages["api"], re.MULTILINE)
    links = re.findall(r"\]\(#([\w-]+)\)", pages["api"])

    assert links
    assert set(links) <= {heading.lower() for heading in headings}
    assert len(headings) == len(set(headings))


def test_a_comment_behind_a_line_is_its_text():
    text = 'x = 1  # a number\ny = "# no comment"\nz = 2  # noqa: F841 - for the linter\n# alone\n'

    assert {1: "a number"} == source.comments(text)


def test_the_pages_can_be_written_as_files(tmp_path):
    words = [sys.executable, "-m", "docs.generate", tmp_path]
    subprocess.run(words, check=True, cwd=ROOT)

    assert sorted(PAGES) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.md"))
