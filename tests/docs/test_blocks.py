"""Every block of Start and the Guides is run as a reader would do it: files are saved, commands are run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport import settings
from tests.docs import blocks
from tests.docs.blocks import Block
from tests.journeys.conftest import PATIENCE_S, Command, Terminal
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "start.md", *sorted((DOCS / "guides").glob("*.md"))]
MARK = "Not run by our tests:"
#: Page and first line of a block -> why it is not run. The page says so above the block, after `MARK`.
NOT_RUN = {
    ("gpus", "import subprocess"): "it needs a GPU",
    ("gpus", "# The weights are read once, and moved in each container."): "it needs a GPU",
    ("images", "image = ("): "it needs registries and downloads",
    (
        "images",
        'token = modal.Secret.from_name("git")  # homeport secret create git GITHUB_TOKEN=…',
    ): "it needs a private repository",
    ("backup", "$ pip install 'homeport[postgres]'"): "it needs a PostgreSQL of yours",
    ("backup", "$ git pull"): "it needs a newer version of homeport",
    ("backup", "$ head -c 18 /dev/urandom | base64 > passphrase"): "it needs systemd and root",
    ("backup", "$ sudo systemctl stop homeport"): "it needs systemd and root",
    ("tracing", "$ pip install 'homeport[otel]'"): "it needs a receiver of OTLP",
    ("tracing", "$ homeport deploy traced.py"): "it needs a receiver of OTLP",
    ("server", "*.apps.example.com {"): "it needs a domain",
    ("server", 'host = "0.0.0.0"'): "it needs a domain",
    ("server", "$ homeport login https://apps.example.com"): "it needs a domain",
    ("https", "$ HOMEPORT_TLS=local homeport up"): "it opens the port 4664",
    ("https", 'domain = "apps.example.com"'): "it needs a domain",
    (
        "backup",
        "$ sudo homeport service upgrade",
    ): "it needs systemd and a newer version of homeport",
    (
        "server",
        "$ sudo homeport service install --domain apps.example.com --email ops@example.com --dry-run",
    ): "it needs systemd and root",
    ("machines", "$ homeport node token"): "it needs other machines",
    (
        "machines",
        "$ sudo homeport node join 10.0.0.1:7600 --token homeport-node-… --service",
    ): "it needs other machines",
    ("machines", "$ homeport node list"): "it needs other machines",
    ("machines", "$ homeport node label worker-1 region=eu-west"): "it needs other machines",
    ("machines", "$ homeport node drain worker-1"): "it needs other machines",
    ("machines", "$ homeport up --standby"): "it needs another machine",
    ("server", "$ sudo homeport service status"): "it needs systemd and root",
    ("server", "$ sudo apt-get update"): "it needs systemd and root",
    (
        "server",
        "$ sudo homeport service run token create --name laptop --scope deploy",
    ): "it needs systemd and root",
    ("server", "$ homeport up --foreground"): "it does not end",
    ("server", "$ homeport up --standby"): "it does not end",
}
LANGUAGES = {"python", "console", "toml", "text", "ini", "json", "yaml"}


class Reader:
    """A reader who follows a page, in their own directory and home."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        self.terminal = Terminal(home)
        #: Text of the page -> what stands for it in this test.
        self.port = free_port()
        self._meant = {
            "4663": str(self.port),
            "4670": str(free_port()),
            "8765": str(free_port()),
            "uv tool install .": f"uv tool install {ROOT}",
        }
        self.terminal.environ |= {
            "HOMEPORT_HTTP_PORT": str(self.port),
            "HOMEPORT_WORKSPACE": "you",
            "HOME": str(directory.parent),  # where ~/.homeport is the same home
            # Not the one that the page installs: its modules would be compiled once more.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "UV_TOOL_DIR": str(directory.parent / "tools"),
            "UV_TOOL_BIN_DIR": str(directory.parent / "bin"),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path("~/.cache/uv").expanduser())),
        }
        self._serving: Command | None = None

    def follow(self, block: Block) -> None:
        """Save the block's file, or run its commands."""
        if block.title:
            path = self.directory / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(block.text))
        for command in block.commands if block.language == "console" else ():
            text = self._here(command.text)
            fails = any("error:" in line for line in command.prints)
            is_serve = text.startswith("homeport serve")
            printed = self._serve(text) if is_serve else self._run(text, fails=fails)
            lacking = blocks.missing(command.prints, printed)
            assert not lacking, f"$ {text}\ndid not print {lacking!r}, but:\n{printed}"

    def deploy(self, script: str) -> None:
        """Deploy a script that no command of its page mentions."""
        self._run(f"homeport deploy {script}")

    def close(self) -> None:
        """End every process that the reader has started."""
        self.terminal.close()

    def _here(self, text: str) -> str:
        # All at once: a free port may have the digits of another port of the page.
        pattern = "|".join(map(re.escape, self._meant))
        return re.sub(pattern, lambda match: self._meant[match[0]], text)

    def _serve(self, text: str) -> str:
        self._serving = self.terminal.start(*text.split()[1:], cwd=self.directory)
        self._serving.wait_for("Ctrl-C")
        return self._serving.output

    def _run(self, text: str, *, fails: bool = False) -> str:
        if text == "^C":
            assert self._serving is not None
            assert 0 == self._serving.interrupt()
            return self._serving.output
        # One terminal for the whole page: variables that a command sets are there for the next.
        kept = self.directory.parent / "variables"
        kept.touch()
        words = f"set -a; . {kept}\n{text}\ncode=$?; export -p > {kept}; exit $code"
        done = subprocess.run(
            ["bash", "-c", words],
            cwd=self.directory,
            env=self.terminal.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=8 * PATIENCE_S,  # the first image with a root file system makes a Debian first
            check=False,
        )
        assert fails == bool(done.returncode), f"$ {text}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def reader(tmp_path) -> Iterator[Reader]:
    """A reader; processes that they leave running are ended."""
    directory, home = tmp_path / "project", tmp_path / ".homeport"
    directory.mkdir()
    home.mkdir(mode=0o700)
    reader = Reader(directory, home)
    yield reader
    reader.close()


@pytest.mark.timeout(900)  # a page has a dozen commands, and the machine is busy with other tests
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(reader, page):
    story = blocks.read(page.read_text())
    typed = " ".join(block.text for block in story if block.language == "console")

    for block in story:
        if (page.stem, block.first_line) in NOT_RUN:
            continue
        reader.follow(block)
        if block.language == "python" and block.title not in typed:
            if block.title == "conftest.py":
                assert "pytest" in typed
                continue
            assert ".App(" in block.text, f"nothing runs {block.title}"
            reader.deploy(block.title)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page):
    for block in blocks.read(page.read_text()):
        assert block.language in LANGUAGES, block.text
        if block.language not in {"console", "text"}:
            assert block.title, f"a block without a title cannot be run:\n{block.text}"
        why = NOT_RUN.get((page.stem, block.first_line))
        expected = f"{MARK} {why}." if why else None

        assert (block.before if MARK in block.before else None) == expected, block.text


def test_every_config_toml_has_settings_that_exist(tmp_path):
    every = [block for page in PAGES for block in blocks.read(page.read_text())]
    configs = [block for block in every if block.title == "config.toml"]
    assert configs
    for block in configs:
        (tmp_path / "config.toml").write_text(block.text)

        assert settings.load({"HOMEPORT_HOME": str(tmp_path)}).given


def test_no_fence_is_left_unread():
    for page in PAGES:
        text = page.read_text()
        fences = re.findall(r"^ *```", text, re.MULTILINE)

        assert len(fences) == 2 * len(blocks.read(text)), page.name


def test_the_list_of_blocks_that_are_not_run_has_no_other():
    found = {
        (page.stem, block.first_line) for page in PAGES for block in blocks.read(page.read_text())
    }

    assert set(NOT_RUN) <= found
