"""PURE: the steps of an image with a root file system, as the operations that they come to.

One step may be several operations: `from_registry(…, add_python="3.12")` pulls, then lays a Python into it.
What only sets something (`env`, `workdir`) makes no layer; it changes the `Config` that later operations see.
"""

import dataclasses
import hashlib
import json
import platform
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeport.contract import dockerfile
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME, ROOTED_STEPS, Image, Step

LAYOUT = 1  # of a layer's directory; a new number builds all layers again
DEBIAN = "bookworm"
MICROMAMBA = "docker.io/mambaorg/micromamba:2.3.0-debian12-slim"
CONDA_ROOT = "/opt/conda"
SHELL = ("/bin/sh", "-c")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The image begins with one of these, or with Debian.
BASES = frozenset(
    {"from_registry", "from_gcp_artifact_registry", "from_aws_ecr", "from_dockerfile", "micromamba"}
)
PACKAGES = frozenset(
    {
        "pip_install",
        "uv_pip_install",
        "pip_install_from_requirements",
        "pip_install_from_pyproject",
        "uv_sync",
        "poetry_install_from_file",
    }
)
COPIES = frozenset({"add_local_file", "add_local_dir", "add_local_python_source"})
SET = frozenset({"env", "workdir", "shell", "entrypoint", "cmd"})
KNOWN = ROOTED_STEPS | PACKAGES | COPIES | SET | {"debian_slim"}
SETTINGS = SET | {"ARG", "ENV"}
#: Arguments that change nothing of what is built.
_UNTOLD = frozenset({"local_path", "force_build", "given"})


#: step -> why not, what to do instead
ELSEWHERE = {
    "from_scratch": (
        "`from_scratch` has no Python to run the function with",
        "begin with `Image.debian_slim()` or `Image.from_registry(…)`",
    ),
    "from_id": (
        "`from_id` needs a store of images, which is not there yet",
        "write the image's steps in the script: each is built once",
    ),
    "from_name": (
        "`from_name` needs a store of images, which is not there yet",
        "write the image's steps in the script: each is built once",
    ),
    "pip_install_private_repos": (
        "`pip_install_private_repos` is not there yet",
        '`run_commands("pip install git+https://$TOKEN@…", secrets=[…])`',
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings that an operation finds, and at the end a container."""

    environ: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = ""  # empty: no step has set it
    shell: tuple[str, ...] = SHELL
    entrypoint: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)  # a Dockerfile's ARG

    @property
    def variables(self) -> dict[str, str]:
        """Return the values of `$NAME` in a Dockerfile."""
        return {**self.arguments, **self.environ}

    def place(self, path: str) -> str:
        """Return an absolute path; a relative one begins at the working directory."""
        return posixpath.normpath(posixpath.join("/", self.workdir or "/", path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation of one step."""

    kind: str
    args: Mapping[str, Any]
    step: Step  # whose it is: for messages and their place
    title: str  # as a person reads it

    @property
    def builds(self) -> bool:
        """True if the operation makes a layer."""
        return self.kind not in SETTINGS

    def apply(self, config: Config) -> Config:
        """Return the settings after this operation, if it only sets something."""
        args = self.args
        if self.kind == "env":
            return dataclasses.replace(config, environ={**config.environ, **args["vars"]})
        if self.kind == "ENV":
            told = {k: dockerfile.expand(v, config.variables) for k, v in args["pairs"]}
            return dataclasses.replace(config, environ={**config.environ, **told})
        if self.kind == "ARG":
            given = dockerfile.expand(args["value"], config.variables)
            return dataclasses.replace(config, arguments={**config.arguments, args["name"]: given})
        if self.kind == "workdir":
            path = dockerfile.expand(args["path"], config.variables)
            return dataclasses.replace(config, workdir=config.place(path))
        if self.kind == "shell":
            return dataclasses.replace(config, shell=tuple(args["commands"]) or SHELL)
        if self.kind == "entrypoint":
            return dataclasses.replace(config, entrypoint=tuple(args["commands"]))
        return config

    def told(self, config: Config) -> list[object]:
        """Return the values that the layer depends on, besides the layers below and the variables."""
        args = {k: v for k, v in self.args.items() if k not in _UNTOLD}
        if self.kind == "COPY":  # of the directory's files only those that it takes
            files = args["files"]
            args["files"] = {
                place: [files[name], name in args["executables"]]
                for place, name in chosen(self, config, is_directory=False).items()
            }
            del args["executables"]
        return [self.kind, args]


def check(image: Image) -> None:
    """Raise `ImageError` for the first step that homeport cannot build."""
    for step in image.steps:
        if step.name in ELSEWHERE:
            why, instead = ELSEWHERE[step.name]
            raise ImageError(why, where=step.where, hint=instead)
        if step.name == "entrypoint" and step.args.get("commands"):
            raise ImageError(
                "`entrypoint` with a command is not there yet",
                where=step.where,
                hint="do what it does in the script, or under `@modal.enter()`",
            )
        if step.name not in KNOWN:
            raise ImageError(f"`{step.name}` is no step that this server knows", where=step.where)


def key_of(told: Iterable[object]) -> str:
    """The name of a layer."""
    text = json.dumps([LAYOUT, platform.machine(), *told], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of(image: Image, ours: str) -> list[Op]:
    """The operations in order. `ours` is the Python that an image has which asks for none: `3.12`."""
    steps = list(image.steps)
    if not any(step.name in BASES | {"debian_slim"} for step in steps):
        steps.insert(0, Step(name="debian_slim"))
    ops: list[Op] = []
    for step in steps:
        try:
            ops += _of_step(step, ours)
        except dockerfile.UnfitError as error:
            raise ImageError(f"`{step.name}`: {error}", where=step.where) from None
    return ops


def _of_step(step: Step, ours: str) -> Iterator[Op]:
    args = step.args
    force = {"force_build": True} if args.get("force_build") else {}
    if step.name == "debian_slim":
        version = str(args.get("python_version") or ours)
        yield _op(step, "debian", f"debian {DEBIAN}", suite=DEBIAN)
        yield _op(step, "python", f"python {version}", version=version, **force)
    elif step.name in ("from_registry", "from_gcp_artifact_registry", "from_aws_ecr"):
        tag = str(args["tag"])
        how = {"from_aws_ecr": "aws", "from_gcp_artifact_registry": "gcp"}.get(step.name, "")
        yield _op(step, "pull", f"{step.name} {tag}", tag=tag, how=how, **force)
        commands = args.get("setup_dockerfile_commands") or []
        yield from _of_dockerfile(step, dockerfile.parse("\n".join(commands)), {}, force)
        yield from _python_added(step, force)
    elif step.name == "micromamba":
        version = str(args.get("python_version") or ours)
        yield _op(step, "pull", "micromamba", tag=MICROMAMBA, how="", **force)
        told = {"MAMBA_ROOT_PREFIX": CONDA_ROOT, "PATH": f"{CONDA_ROOT}/bin:{PATH}"}
        yield _op(step, "env", "", vars=told)
        line = _micromamba([f"python={version}", "pip"], ["conda-forge"])
        yield _op(step, "run", f"micromamba python={version}", commands=[line], **force)
    elif step.name == "micromamba_install":
        words, files = list(args.get("packages", [])), {}
        if args.get("spec_file_text"):
            files = {"spec_file_text": args["spec_file_text"]}
        line = _micromamba(words, args.get("channels") or [], spec=bool(files))
        title = " ".join([step.name, *words])
        yield _op(step, "run", title, commands=[line], **files, **force)
    elif step.name in ("from_dockerfile", "dockerfile_commands"):
        text = str(args.get("text") or "\n".join(args.get("commands", [])))
        given = dict(args.get("build_args") or {})
        yield from _of_dockerfile(step, dockerfile.parse(text), given, force)
        yield from _python_added(step, force)
    elif step.name.startswith("add_local"):
        if args.get("copy"):
            title = f"{step.name} {args.get('remote_path') or ' '.join(args.get('modules', []))}"
            yield _op(step, "copy", title, files=args.get("files") or {})
    elif step.name in ("env", "workdir", "shell", "entrypoint", "cmd"):
        given = (
            {**args} if step.name in ("env", "workdir") else {"commands": args.get("commands", [])}
        )
        yield _op(step, step.name, "", **given)
    else:
        yield _op(step, _KINDS.get(step.name, "packages"), in_words(step), **args)


_KINDS = {"apt_install": "apt", "run_commands": "run", "run_function": "function"}


def in_words(step: Step) -> str:
    """Return a step as text for people, without variables, indexes and options, which may be secret."""
    args = step.args
    told = [*args.get("packages", []), *args.get("commands", []), *args.get("modules", [])]
    told += [str(args[k]) for k in ("python_version", "remote_path", "qualname") if args.get(k)]
    return " ".join([step.name, *told])


def _op(step: Step, kind: str, title: str, **args: Any) -> Op:
    return Op(kind=kind, args=args, step=step, title=title)


def _python_added(step: Step, force: Mapping[str, bool]) -> Iterator[Op]:
    if version := step.args.get("add_python"):
        yield _op(step, "python", f"python {version}", version=str(version), **force)


def _micromamba(words: list[str], channels: list[str], *, spec: bool = False) -> str:
    import shlex

    listed = [*(["--file", "/run/homeport/given/spec.yaml"] if spec else []), *words]
    sources = [word for channel in channels for word in ("-c", channel)]
    told = ["micromamba", "install", "--yes", "--name", "base", *sources, *listed]
    return f"{shlex.join(told)} && micromamba clean --all --yes >/dev/null"


def _of_dockerfile(
    step: Step,
    instructions: list[dockerfile.Instruction],
    given: Mapping[str, str],
    force: Mapping[str, bool],
) -> Iterator[Op]:
    whole = step.name == "from_dockerfile"
    outer: dict[str, str] = {}  # ARG before FROM
    froms = sum(one.name == "FROM" for one in instructions)
    if froms != whole:
        if not whole:
            raise dockerfile.UnfitError("`FROM` belongs into `from_dockerfile`")
        raise dockerfile.UnfitError(
            "more than one `FROM`: stages are not there yet" if froms else "there is no `FROM`"
        )
    begun = not whole
    for one in instructions:
        if one.name == "ARG":
            for name, value in _arguments(one, given):
                if begun:
                    yield _op(step, "ARG", "", name=name, value=given.get(name, value))
                else:
                    outer[name] = dockerfile.expand(given.get(name, value), outer)
        elif not begun and one.name != "FROM":
            raise dockerfile.UnfitError(f"line {one.line}: `FROM` comes first")
        elif one.name == "FROM":
            begun = True
            tag = dockerfile.expand(one.words()[0], outer)
            if tag == "scratch":
                raise dockerfile.UnfitError("`FROM scratch` has no Python, nor a shell")
            yield _op(step, "pull", f"FROM {tag}", tag=tag, how="", **force)
        else:
            yield from _of_instruction(step, one, force)


def _arguments(one: dockerfile.Instruction, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for word in one.value.split():
        name, _, value = word.partition("=")
        if "=" in word or name in given:
            yield name, value.strip("\"'")


def _of_instruction(
    step: Step, one: dockerfile.Instruction, force: Mapping[str, bool]
) -> Iterator[Op]:
    secrets = {k: step.args[k] for k in ("env",) if step.args.get(k)}
    if one.name == "RUN":
        listed = one.listed()
        told: dict[str, Any] = (
            {"argv": listed} if listed else {"commands": [one.script or one.value]}
        )
        yield _op(step, "run", one.text, **told, **secrets, **force)
    elif one.name in ("COPY", "ADD"):
        sources, target = dockerfile.copied(one)
        if one.name == "ADD" and any(s.endswith(_ARCHIVES) for s in sources):
            raise dockerfile.UnfitError(
                f"line {one.line}: `ADD` of an archive is not there yet: use `COPY` and `RUN tar`"
            )
        told = {
            "sources": sources,
            "target": target,
            "mode": one.flags.get("chmod", ""),
            "files": step.args.get("files") or {},
            "executables": step.args.get("executables") or [],
        }
        yield _op(step, "COPY", one.text, **told)
    elif one.name == "ENV":
        yield _op(step, "ENV", "", pairs=one.pairs())
    elif one.name == "WORKDIR":
        yield _op(step, "workdir", "", path=one.value)
    elif one.name in ("SHELL", "ENTRYPOINT"):
        words = one.listed() if one.value.startswith("[") else [*SHELL, one.value]
        if words is None:
            raise dockerfile.UnfitError(f"line {one.line}: `{one.text}` is no list")
        yield _op(step, one.name.lower(), "", commands=words)


_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tbz2")


def chosen(op: Op, config: Config, *, is_directory: bool) -> dict[str, str]:
    """Return the files of a COPY: absolute path in the image -> file of the context; empty if a source is not there.

    `is_directory` says whether its destination is one in the image already.
    """
    import fnmatch

    target = dockerfile.expand(op.args["target"], config.variables)
    place = config.place(target)
    files: Mapping[str, str] = op.args["files"]
    found: dict[str, str] = {}
    sources = [dockerfile.expand(s, config.variables).removeprefix("/") for s in op.args["sources"]]
    many = len(sources) > 1 or target.endswith("/") or target in (".", "..") or is_directory
    for source in sources:
        wanted = posixpath.normpath(source or ".")
        below = "" if wanted == "." else f"{wanted}/"
        inside = {posixpath.join(place, f[len(below) :]): f for f in files if f.startswith(below)}
        matched = [f for f in files if f == wanted or _matches(f, wanted, fnmatch.fnmatchcase)]
        if matched:
            into = many or len(matched) > 1
            found |= {
                (posixpath.join(place, posixpath.basename(f)) if into else place): f
                for f in matched
            }
        elif inside:
            found |= inside
        else:
            raise ImageError(
                f"`{op.title}`: there is no `{source}` in the directory that it copies from",
                where=op.step.where,
                hint="`context_dir=` says which directory that is, and a `.dockerignore` leaves files out",
            )
    return found


def _matches(path: str, pattern: str, match: Any) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(match, parts, wanted))


def home(config: Config) -> str:
    """Return the working directory of a container."""
    return config.workdir or HOME
