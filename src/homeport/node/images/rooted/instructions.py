"""PURE: a Dockerfile's instructions as operations (docs.docker.com/reference/dockerfile).

A stage that the last one does not need, directly or through others, is left out, as in BuildKit.
"""

import fnmatch
import platform
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from homeport.contract import dockerfile
from homeport.contract.dataclass import dataclass
from homeport.contract.dockerfile import Instruction, UnfitError
from homeport.contract.errors import ImageError
from homeport.contract.image import Step
from homeport.node.images.rooted.operations import SHELL, Config, Op, op

SCRATCH = "scratch"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
#: Arguments that a Dockerfile has without ARG's default (the reference, "Automatic platform ARGs").
AUTOMATIC = {
    **{f"{side}PLATFORM": f"linux/{_ARCHITECTURE}" for side in ("TARGET", "BUILD")},
    **{f"{side}ARCH": _ARCHITECTURE for side in ("TARGET", "BUILD")},
    **{f"{side}OS": "linux" for side in ("TARGET", "BUILD")},
}


@dataclass(slots=True)
class _Stage:
    """One `FROM`, and the instructions after it."""

    name: str  # `0`, or what comes after AS
    base: str  # an image, or a stage before it
    instructions: list[Instruction] = field(default_factory=list)


def of_dockerfile(
    step: Step,
    instructions: list[Instruction],
    build_args: Mapping[str, str],
    force: Mapping[str, bool],
) -> Iterator[Op]:
    """Return the operations of a whole Dockerfile; `build_args` are its build arguments."""
    stages, outer = _stages(instructions, build_args)
    if not stages:
        raise UnfitError("there is no `FROM`")
    numbers = {name: n for n, stage in enumerate(stages) for name in (str(n), stage.name)}
    needed = _needed(stages, numbers)
    for image in _images(stages, numbers, needed):
        yield op(step, "STAGE", "", name=image, base="")
        yield op(step, "pull", f"FROM {image}", tag=image, how="", **force)
    for number in sorted(needed):
        stage = stages[number]
        base = numbers.get(stage.base, number)
        yield op(step, "STAGE", "", name=str(number), base=str(base) if base < number else "")
        if base >= number:
            if stage.base == SCRATCH:
                yield op(step, "empty", "FROM scratch")
            else:
                yield op(step, "pull", f"FROM {stage.base}", tag=stage.base, how="", **force)
        yield from of_instructions(step, stage.instructions, build_args, force, outer, numbers)


def of_lines(
    step: Step,
    instructions: list[Instruction],
    build_args: Mapping[str, str],
    force: Mapping[str, bool],
) -> Iterator[Op]:
    """Return the operations of lines that continue an image."""
    if any(instruction.name == "FROM" for instruction in instructions):
        raise UnfitError("`FROM` belongs into `from_dockerfile`")
    for image in _images([_Stage("", "", instructions)], {}, {0}):
        yield op(step, "STAGE", "", name=image, base="")
        yield op(step, "pull", f"FROM {image}", tag=image, how="", **force)
        yield op(step, "STAGE", "", name="", base="")  # return to the stage before
    yield from of_instructions(step, instructions, build_args, force, {}, {})


def of_instructions(
    step: Step,
    instructions: list[Instruction],
    build_args: Mapping[str, str],
    force: Mapping[str, bool],
    outer: Mapping[str, str],
    numbers: Mapping[str, int],
) -> Iterator[Op]:
    """Yield the operations of one stage."""
    for instruction in instructions:
        if instruction.name == "ARG":
            for name, value in _arguments(instruction, {**AUTOMATIC, **outer, **build_args}):
                yield op(step, "ARG", "", name=name, value=build_args.get(name, value))
        elif instruction.name == "RUN":
            yield _run(step, instruction, force, numbers)
        elif instruction.name in ("COPY", "ADD"):
            yield from _copies(step, instruction, force, numbers)
        elif instruction.name == "ENV":
            yield op(step, "ENV", "", pairs=instruction.pairs())
        elif instruction.name == "WORKDIR":
            yield op(step, "workdir", "", path=instruction.value)
        elif instruction.name in ("SHELL", "ENTRYPOINT"):
            words = (
                instruction.listed()
                if instruction.value.startswith("[")
                else [*SHELL, instruction.value]
            )
            if words is None:
                raise UnfitError(f"line {instruction.line}: `{instruction.text}` is not a list")
            yield op(step, instruction.name.lower(), "", commands=words)


def _stages(
    instructions: list[Instruction], build_args: Mapping[str, str]
) -> tuple[list[_Stage], dict[str, str]]:
    stages: list[_Stage] = []
    outer: dict[str, str] = {}  # ARG before the first FROM
    for instruction in instructions:
        if instruction.name == "FROM":
            words = instruction.words()
            has_name = len(words) == 3 and words[1].lower() == "as"
            if len(words) != 1 and not has_name:
                raise UnfitError(
                    f"line {instruction.line}: `{instruction.text}` is not `FROM image AS name`"
                )
            base = dockerfile.expand(words[0], {**AUTOMATIC, **outer})
            name = words[2].lower() if has_name else str(len(stages))
            names = {stage.name for stage in stages}
            stages.append(_Stage(name, base.lower() if base.lower() in names else base))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            for name, value in _arguments(instruction, build_args):
                outer[name] = dockerfile.expand(build_args.get(name, value), outer)
        else:
            raise UnfitError(f"line {instruction.line}: `FROM` comes first")
    return stages, outer


def _sources(stage: _Stage) -> list[str]:
    """Return the stages and images that a stage takes files from."""
    sources = []
    for instruction in stage.instructions:
        if instruction.name in ("COPY", "ADD") and "from" in instruction.flags:
            sources.append(instruction.flags["from"])
        if instruction.name == "RUN":
            sources += [mount["from"] for mount in instruction.mounts if "from" in mount]
    if any("$" in name for name in sources):
        raise UnfitError("`--from` takes no variable")
    return sources


def _needed(stages: list[_Stage], numbers: Mapping[str, int]) -> set[int]:
    needed: set[int] = set()
    waiting = [len(stages) - 1]
    while waiting:
        number = waiting.pop()
        if number in needed:
            continue
        needed.add(number)
        for name in (stages[number].base, *_sources(stages[number])):
            stage = numbers.get(name.lower(), number)
            if stage < number:
                waiting.append(stage)
            elif name.lower() in numbers and name != stages[number].base:
                raise UnfitError(f"the stage `{name}` comes after the one that uses it")
    return needed


def _images(stages: list[_Stage], numbers: Mapping[str, int], needed: set[int]) -> list[str]:
    """Return the images of registries that `--from` names."""
    images = [name for number in sorted(needed) for name in _sources(stages[number])]
    return [name for name in dict.fromkeys(images) if name.lower() not in numbers]


def _stage_of(name: str, numbers: Mapping[str, int]) -> str:
    return str(numbers[name.lower()]) if name.lower() in numbers else name


def _arguments(instruction: Instruction, defaults: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for word in instruction.value.split():
        name, _, value = word.partition("=")
        if "=" in word or name in defaults:
            yield name, value.strip("\"'") if "=" in word else defaults[name]


def _run(
    step: Step, instruction: Instruction, force: Mapping[str, bool], numbers: Mapping[str, int]
) -> Op:
    settings: dict[str, Any] = {k: step.args[k] for k in ("env",) if step.args.get(k)}
    mounts = []
    for mount in instruction.mounts:
        target, source = dockerfile.mounted(mount)
        mount_settings: dict[str, Any] = {"type": mount["type"], "target": target, "source": source}
        mount_settings |= {k: mount[k] for k in ("id", "env", "required") if k in mount}
        if mount["type"] == "bind":
            stage = mount.get("from", "")
            mount_settings["stage"] = _stage_of(stage, numbers) if stage else ""
            mount_settings["files"] = {} if stage else _below(step.args.get("files") or {}, source)
        mounts.append(mount_settings)
    if mounts:
        settings["mounts"] = mounts
    listed = instruction.listed()
    settings |= {"argv": listed} if listed else {"commands": [dockerfile.script(instruction)]}
    return op(step, "run", instruction.text, **settings, **force)


def _document(instruction: Instruction, name: str, text: str) -> str:
    """Return a here-document's text, with variables replaced unless its name is quoted."""
    quoted = re.search(rf"<<-?\s*['\"]{re.escape(name)}['\"]", instruction.value)
    return text.replace("$", "\\$") if quoted else text


def _below(files: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the files of the context below a directory, by their path from there; or the one file."""
    top = posixpath.normpath(source.lstrip("/") or ".")
    if top in files:
        return {"": files[top]}
    begin = "" if top == "." else f"{top}/"
    return {name[len(begin) :]: sha for name, sha in files.items() if name.startswith(begin)}


def _copies(
    step: Step, instruction: Instruction, force: Mapping[str, bool], numbers: Mapping[str, int]
) -> Iterator[Op]:
    sources, target = dockerfile.copied(instruction)
    destination = {
        "target": target,
        "mode": instruction.flags.get("chmod", ""),
        "owner": instruction.flags.get("chown", ""),
    }
    if stage := instruction.flags.get("from"):
        destination["stage"] = _stage_of(stage, numbers)
        yield op(step, "COPY_FROM", instruction.text, sources=sources, **destination, **force)
        return
    texts = {name: _document(instruction, name, text) for name, text in instruction.documents}
    urls = [s for s in sources if dockerfile.is_url(s)]
    packed = [
        s for s in sources if instruction.name == "ADD" and s.endswith(ARCHIVES) and s not in urls
    ]
    plain = [s for s in sources if s not in (*urls, *packed) and not s.startswith("<<")]
    files, executables = step.args.get("files") or {}, step.args.get("executables") or []
    if texts:
        yield op(
            step, "WRITE", instruction.text, texts=texts, several=len(sources) > 1, **destination
        )
    for url in urls:
        checksum = instruction.flags.get("checksum", "")
        yield op(
            step, "ADD_URL", instruction.text, url=url, checksum=checksum, **destination, **force
        )
    if packed:
        yield op(step, "ADD_ARCHIVE", instruction.text, sources=packed, files=files, **destination)
    if plain:
        yield op(
            step,
            "COPY",
            instruction.text,
            sources=plain,
            files=files,
            executables=executables,
            **destination,
        )


def chosen(op: Op, config: Config, *, is_directory: bool) -> dict[str, str]:
    """Return the files of a COPY: absolute place -> the context's file; `ImageError` if a source does not exist.

    `is_directory` says whether the destination is a directory of the image already.
    """
    target = dockerfile.expand(op.args["target"], config.variables)
    place = config.place(target)
    files: dict[str, str] = {}
    sources = [dockerfile.expand(s, config.variables) for s in op.args["sources"]]
    many = len(sources) > 1 or target.endswith("/") or target in (".", "..") or is_directory
    for source in sources:
        inside, matched = _named(op, source)
        if matched:
            into = many or len(matched) > 1
            files |= {
                (posixpath.join(place, posixpath.basename(f)) if into else place): f
                for f in matched
            }
        files |= {posixpath.normpath(posixpath.join(place, name)): f for name, f in inside.items()}
    return files


def key_parts(op: Op, config: Config) -> list[object]:
    """Return the values that an operation's layer depends on, besides the layers below, the variables and the stages."""
    if op.kind not in ("COPY", "ADD_ARCHIVE"):
        return op.key_parts()
    kind, args = op.key_parts()
    assert isinstance(args, dict)
    files = args.pop("files")  # of the directory only those that it takes
    if op.kind == "ADD_ARCHIVE":
        return [kind, {**args, "files": [files[name] for name in archives(op, config)]}]
    executables = args.pop("executables")
    chosen_files = chosen(op, config, is_directory=False)
    files_by_place = {
        place: [files[name], name in executables] for place, name in chosen_files.items()
    }
    return [kind, {**args, "files": files_by_place}]


def archives(op: Op, config: Config) -> list[str]:
    """Return the context's files that an ADD unpacks."""
    sources = [dockerfile.expand(s, config.variables) for s in op.args["sources"]]
    return [name for source in sources for name in _named(op, source)[1]]


def _named(op: Op, source: str) -> tuple[dict[str, str], list[str]]:
    """Return the files below a directory of the context, by their path from there; and the files that a source names."""
    files: Mapping[str, str] = op.args["files"]
    path = posixpath.normpath(source.lstrip("/") or ".")
    below = "" if path == "." else f"{path}/"
    matched = [f for f in files if f == path or _matches(f, path)]
    inside = {f[len(below) :]: f for f in files if f.startswith(below)}
    if not matched and not inside:
        raise ImageError(
            f"`{op.title}`: there is no `{source}` in the directory that it copies from",
            where=op.step.where,
            hint="`context_dir=` says which directory that is, and a `.dockerignore` leaves files out",
        )
    return ({} if matched else inside), matched


def _matches(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))
