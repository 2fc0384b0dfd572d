"""Turns the steps that install packages into uv's command lines. Its only side effect: it writes the files that uv reads.

The same for an environment of this machine and for an image's own Python; only the directory where uv puts the
packages is different.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath

from homeport.contract.dataclass import dataclass
from homeport.contract.image import Step
from homeport.node.images import private

#: The best version of all indexes; uv by itself takes the first index that knows the package.
AS_PIP_DOES = ("--index-strategy", "unsafe-best-match")
Words = list[str]


@dataclass(frozen=True, slots=True)
class Installing:
    """One step's commands."""

    step: Step
    directory: Path  # where its files are written
    seen: PurePath  # where uv finds them, if that is another place: in a cell
    python: str

    def commands(self, *, held: bool = False) -> list[Words]:
        """Return uv's command lines; `held` for a Python whose packages belong to the system."""
        place = ["--python", self.python, *(["--break-system-packages"] if held else [])]
        return [[*words[:2], *place, *words[2:]] for words in self._commands()]

    def _commands(self) -> list[Words]:
        args, name = self.step.args, self.step.name
        pip = ["pip", "install", *self._options()]
        if name == "pip_install":
            return [[*pip, *args["packages"], *AS_PIP_DOES]]
        if name == "uv_pip_install":
            return [[*pip, *self._listed(), *args.get("packages", [])]]
        if name == "pip_install_from_requirements":
            return [[*pip, *self._listed(), *AS_PIP_DOES]]
        if name == "pip_install_from_pyproject":
            project = self._written("pyproject.toml", args["pyproject"])
            extras = repeated("--extra", args.get("optional_dependencies"))
            return [[*pip, "-r", project, *extras, *AS_PIP_DOES]]
        if name == private.NAME:
            return [[*pip, *private.requirements(self.step), *AS_PIP_DOES]]
        raise KeyError(name)

    def _options(self) -> Words:
        args = self.step.args
        words = [*repeated("--find-links", args.get("find_links"))]
        words += repeated("--index-url", args.get("index_url"))
        words += repeated("--extra-index-url", args.get("extra_index_url"))
        words += ["--prerelease", "allow"] if args.get("pre") else []
        return [*words, *shlex.split(args.get("extra_options") or "")]

    def _listed(self) -> Words:
        """Return the options for the step's requirements files, as uv's words."""
        words = []
        for option, name in (("-r", "requirements"), ("-c", "constraints")):
            if text := self.step.args.get(name):
                words += [option, self._written(f"{name}.txt", text)]
        return words

    def _written(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return str(self.seen / name)


@dataclass(frozen=True, slots=True)
class Syncing:
    """`uv_sync` and `poetry_install_from_file`: a project's own list of packages."""

    step: Step
    directory: Path
    seen: PurePath

    def write(self) -> None:
        """Write the project and its lock file."""
        args = self.step.args
        (self.directory / "pyproject.toml").write_text(args["pyproject"])
        if lock := args.get("lockfile"):
            name = "uv.lock" if self.step.name == "uv_sync" else "poetry.lock"
            (self.directory / name).write_text(lock)

    def sync(self) -> Words:
        """Return the words after `uv sync` or `uv export`."""
        args = self.step.args
        words = ["--project", str(self.seen)]
        words += ["--frozen"] if args.get("lockfile") and args.get("frozen") else []
        words += repeated("--group", args.get("groups"))
        words += repeated("--extra", args.get("extras"))
        return words + shlex.split(args.get("extra_options") or "")

    def poetry(self) -> Words:
        """Return the words after `uv` for a project of Poetry."""
        words = ["--no-root", *self._quiet(), *self._groups()]
        return ["tool", "run", "--from", self._version(), "poetry", "install", *words]

    def exported(self, python: str, listed: str) -> list[Words]:
        """Return the words after `uv`, of each command, that write what Poetry would install into a list for uv."""
        words = ["tool", "run", "--python", python, "--from", self._version()]
        # Not by its script, which needs `realpath` in the image.
        words += ["--with", "poetry-plugin-export", "python", "-m", "poetry"]
        locking = [] if self.step.args.get("lockfile") else [[*words, "lock", *self._quiet()]]
        return [*locking, [*words, "export", "--output", listed, *self._quiet(), *self._groups()]]

    def _version(self) -> str:
        version = self.step.args.get("poetry_version") or "latest"
        return "poetry" if version == "latest" else f"poetry=={version}"

    def _quiet(self) -> Words:
        return ["--no-interaction", "--no-ansi", "--directory", str(self.seen)]

    def _groups(self) -> Words:
        words = []
        for option, name in (("with", "with_"), ("without", "without"), ("only", "only")):
            words += repeated(f"--{option}", self.step.args.get(name))
        return words


#: Variables that Poetry reads.
POETRY: Mapping[str, str] = {
    "POETRY_VIRTUALENVS_CREATE": "false",
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
}


def repeated(option: str, values: str | list[str] | None) -> Words:
    """Return the words that give an option once for each value."""
    listed = [values] if isinstance(values, str) else values or []
    return [word for value in listed for word in (option, value)]
