"""PURE: turns the steps of an image with a root file system into operations.

One step may be several operations: `from_registry(…, add_python="3.12")` pulls, then lays a Python into it.
A step that only sets something (`env`, `workdir`) makes no layer; it changes the `Config` that later operations see.
"""

import hashlib
import json
import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping

from homeport.contract import dockerfile
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME, PATH, ROOTED_STEPS, Image, Step
from homeport.node.images import private
from homeport.node.images.rooted import instructions
from homeport.node.images.rooted.operations import SET, Config, Op, op

LAYOUT = 3  # of a layer's directory; another number builds everything again
DEBIAN = "bookworm"
MICROMAMBA = "docker.io/mambaorg/micromamba:2.3.0-debian12-slim"
MICROMAMBA_HINT = (
    f"`micromamba` begins with the image {MICROMAMBA}, to which this machine needs a way; "
    "without one, `debian_slim().uv_pip_install(…)` installs the packages that PyPI has"
)
CONDA_ROOT = "/opt/conda"
#: The image begins with one of these, or with Debian.
BASES = frozenset(
    {"from_registry", "from_gcp_artifact_registry", "from_aws_ecr", "from_dockerfile"}
    | {"from_scratch", "micromamba"}
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
KNOWN = ROOTED_STEPS | PACKAGES | COPIES | SET | {"debian_slim"}

#: step -> why it is not supported, and what to do instead
ELSEWHERE = {
    "from_id": (
        "`from_id` needs a store of images, which is not there yet",
        "write the image's steps in the script: each is built once",
    ),
    "from_name": (
        "`from_name` needs a store of images, which is not there yet",
        "write the image's steps in the script: each is built once",
    ),
}


def check(image: Image) -> None:
    """Raise `ImageError` for the first step that homeport cannot build."""
    for step in image.steps:
        if step.name in ELSEWHERE:
            why, instead = ELSEWHERE[step.name]
            raise ImageError(why, where=step.where, hint=instead)
        if step.name not in KNOWN:
            raise ImageError(
                f"`{step.name}` is not a step that this server knows", where=step.where
            )


def key_of(inputs: Iterable[object]) -> str:
    """Return the name of a layer."""
    text = json.dumps([LAYOUT, platform.machine(), *inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of(image: Image, ours: str) -> list[Op]:
    """Return the operations in order. `ours` is the version of an image's Python if the script names none: `3.12`."""
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
        yield op(step, "debian", f"debian {DEBIAN}", suite=DEBIAN)
        yield op(step, "python", f"python {version}", version=version, **force)
    elif step.name in ("from_registry", "from_gcp_artifact_registry", "from_aws_ecr"):
        tag = str(args["tag"])
        how = {"from_aws_ecr": "aws", "from_gcp_artifact_registry": "gcp"}.get(step.name, "")
        yield op(step, "pull", f"{step.name} {tag}", tag=tag, how=how, **force)
        commands = args.get("setup_dockerfile_commands") or []
        yield from instructions.of_lines(step, dockerfile.parse("\n".join(commands)), {}, force)
        yield from _python_added(step, force)
    elif step.name == "from_scratch":
        yield op(step, "empty", "from_scratch", **force)
    elif step.name == "micromamba":
        version = str(args.get("python_version") or ours)
        yield op(step, "pull", "micromamba", tag=MICROMAMBA, how="", hint=MICROMAMBA_HINT, **force)
        variables = {"MAMBA_ROOT_PREFIX": CONDA_ROOT, "PATH": f"{CONDA_ROOT}/bin:{PATH}"}
        yield op(step, "env", "", vars=variables)
        line = _micromamba([f"python={version}", "pip"], ["conda-forge"])
        yield op(step, "run", f"micromamba python={version}", commands=[line], **force)
    elif step.name == "micromamba_install":
        words, files = list(args.get("packages", [])), {}
        if args.get("spec_file_text"):
            files = {"spec_file_text": args["spec_file_text"]}
        line = _micromamba(words, args.get("channels") or [], spec=bool(files))
        title = " ".join([step.name, *words])
        yield op(step, "run", title, commands=[line], **files, **force)
    elif step.name == private.NAME:
        yield op(step, "git", "git", **force)
        yield op(step, "packages", " ".join([step.name, *args.get("repositories", [])]), **args)
    elif step.name in ("from_dockerfile", "dockerfile_commands"):
        text = str(args.get("text") or "\n".join(args.get("commands", [])))
        arguments = dict(args.get("build_args") or {})
        read = (
            instructions.of_dockerfile if step.name == "from_dockerfile" else instructions.of_lines
        )
        yield from read(step, dockerfile.parse(text), arguments, force)
        yield from _python_added(step, force)
    elif step.name.startswith("add_local"):
        if args.get("copy"):
            title = f"{step.name} {args.get('remote_path') or ' '.join(args.get('modules', []))}"
            yield op(step, "copy", title, files=args.get("files") or {})
    elif step.name in ("env", "workdir", "shell", "entrypoint", "cmd"):
        arguments = (
            {**args} if step.name in ("env", "workdir") else {"commands": args.get("commands", [])}
        )
        yield op(step, step.name, "", **arguments)
    else:
        yield op(step, _KINDS.get(step.name, "packages"), in_words(step), **args)


_KINDS = {"apt_install": "apt", "run_commands": "run", "run_function": "function"}


def in_words(step: Step) -> str:
    """Return a step as text for people, without variables, indexes and options, which may be secret."""
    args = step.args
    texts = [*args.get("packages", []), *args.get("commands", []), *args.get("modules", [])]
    texts += [str(args[k]) for k in ("python_version", "remote_path", "qualname") if args.get(k)]
    return " ".join([step.name, *texts])


def _python_added(step: Step, force: Mapping[str, bool]) -> Iterator[Op]:
    if version := step.args.get("add_python"):
        yield op(step, "python", f"python {version}", version=str(version), **force)


def _micromamba(words: list[str], channels: list[str], *, spec: bool = False) -> str:
    listed = [*(["--file", "/run/homeport/given/spec.yaml"] if spec else []), *words]
    sources = [word for channel in channels for word in ("-c", channel)]
    install = ["micromamba", "install", "--yes", "--name", "base", *sources, *listed]
    return f"{shlex.join(install)} && micromamba clean --all --yes >/dev/null"


def home(config: Config) -> str:
    """Return the working directory of a container."""
    return config.workdir or HOME


def last_settings(ops: Iterable[Op]) -> list[Op]:
    """Return the settings after the last layer of the image, which that layer's record does not have."""
    stages: dict[str, list[Op]] = {}
    main = settings = list[Op]()
    for operation in ops:
        if operation.kind == "STAGE":
            name, base = operation.args["name"], operation.args["base"]
            settings = stages[name] = main if not name else list(stages.get(base, ()))
        elif operation.builds:
            settings.clear()
        else:
            settings.append(operation)
    return settings
