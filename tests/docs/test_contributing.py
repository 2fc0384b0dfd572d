"""The pages for contributors describe the code as it is."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs/contributing").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_that_a_page_names_is_there(page):
    paths = re.findall(r"`((?:src|tests|docs|release)/[\w/.-]+|[A-Z]+\.md)`", page.read_text())

    assert [] == [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_that_a_page_names_is_in_its_file(page):
    text = " ".join(page.read_text().split())
    pairs = re.findall(r"`([\w.]+)`(?: of| in) `(src/[\w/.-]+\.py)`", text)
    for name, path in pairs:
        source = (ROOT / path).read_text()

        assert re.search(rf"\b{re.escape(name)}\b", source), f"{name} is not in {path}"


def test_links_between_files_of_the_repository_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            is_generated = link.startswith("../reference/")
            assert is_generated or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_four_commands_are_those_of_the_makefile():
    told = re.findall(r"^\| `make (\w+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    made = re.findall(r"^(\w+):$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert ["install", "check", "test", "docs"] == told == made


def test_hooks_run_what_make_check_runs():
    check = (ROOT / "Makefile").read_text().partition("check:\n")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    tools = re.findall(r"uv run --group dev (ruff \w+|mypy)", check)

    assert ["ruff format", "ruff check", "mypy"] == tools
    assert tools == re.findall(r"entry: uv run --group dev (ruff \w+|mypy)", hooks)
    assert "http" not in hooks


def test_make_says_what_it_would_run():
    done = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "uv run --group dev mypy" in done.stdout.splitlines()
