"""Says what differs between two versions of an app: their files, and the settings of their functions.

No value of a secret is in a manifest that is kept. Variables of an image (`.env`) are named without their values, and so
are passwords in URLs, because people put secrets there.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping

from homeport.contract import codec
from homeport.contract.api.apps import FileChange, FileState, SettingChange
from homeport.contract.image import Image
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef, SourceFile, VolumeMount

MOST_FILES = 500
MOST_BYTES = 256 * 1024  # of a file that is compared line by line
MOST_LINES = 5_000  # likewise: the time grows with their square
MOST_DIFF = 64 * 1024  # characters of one file
MOST_DIFFS = 1024 * 1024  # of all files together
#: Fields that do not concern how a function runs, or that `_special` describes in other words.
_OTHERS = {"name", "where", "image", "secrets", "build_secrets", "volumes", "build_volumes", "web", "calls"}  # fmt: skip
_PASSWORD = re.compile(r"(\w+://)[^/\s@\"']+@")

#: Returns a file's content by its hash; None if the file was deleted.
Read = Callable[[str], bytes | None]


def files(
    before: Manifest, after: Manifest, read: Read | None
) -> tuple[tuple[FileChange, ...], int]:
    """Return the files that differ, and how many more there are. Without `read` no text is compared."""
    old, new = _by_path(before), _by_path(after)
    paths = sorted(path for path in {*old, *new} if _state(old.get(path)) != _state(new.get(path)))
    changes, left_chars = [], MOST_DIFFS
    for path in paths[:MOST_FILES]:
        before_file, after_file = old.get(path), new.get(path)
        diff = (
            _diff(path, before_file, after_file, read)
            if read is not None and left_chars > 0
            else ""
        )
        left_chars -= len(diff)
        changes.append(
            FileChange(path=path, before=_state(before_file), after=_state(after_file), diff=diff)
        )
    return tuple(changes), len(paths) - len(changes)


def settings(before: Manifest, after: Manifest, *, images: bool) -> tuple[SettingChange, ...]:
    """PURE: return the settings that differ; without `images` only the names of their steps."""
    old, new = _settings(before, images), _settings(after, images)
    return tuple(
        SettingChange(
            function=function,
            setting=setting,
            before=old.get((function, setting)),
            after=new.get((function, setting)),
        )
        for function, setting in sorted({*old, *new})
        if old.get((function, setting)) != new.get((function, setting))
    )


def _by_path(manifest: Manifest) -> dict[str, SourceFile]:
    return {file.path: file for file in manifest.files}


def _state(file: SourceFile | None) -> FileState | None:
    if file is None:
        return None
    return FileState(
        size_bytes=file.size_bytes, sha256=file.sha256, executable=bool(file.mode & 0o100)
    )


def _diff(path: str, before: SourceFile | None, after: SourceFile | None, read: Read) -> str:
    before_lines, after_lines = _lines(before, read), _lines(after, read)
    if before_lines is None or after_lines is None:
        return ""
    names = (f"a/{path}" if before else "/dev/null", f"b/{path}" if after else "/dev/null")
    import difflib

    text = "\n".join(difflib.unified_diff(before_lines, after_lines, *names, lineterm=""))
    return text if len(text) <= MOST_DIFF else f"{text[:MOST_DIFF]}\n…"


def _lines(file: SourceFile | None, read: Read) -> list[str] | None:
    """Return a text's lines; None for a binary file, a large one, and a deleted one."""
    if file is None:
        return []
    if file.size_bytes > MOST_BYTES or (content := read(file.sha256)) is None or b"\0" in content:
        return None
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if len(lines) <= MOST_LINES else None


def _settings(manifest: Manifest, images: bool) -> dict[tuple[str, str], str]:
    """Return each setting as text, by its function and name."""
    texts = {("", f"tag {name}"): value for name, value in manifest.tags.items()}
    if manifest.python_version:
        texts["", "python_version"] = manifest.python_version
    for spec in manifest.functions:
        plain = ((name, _text(value)) for name, value in _fields(spec, _OTHERS))
        for name, text in (*plain, *_special(spec, images)):
            texts[spec.name, name] = text
    return texts


def _special(spec: FunctionSpec, images: bool) -> Iterator[tuple[str, str]]:
    for web in spec.web:
        for name, value in _fields(web, {"tag", "where"}):
            yield f"web {web.tag} {name}", _text(value)
    for call in spec.calls:
        for name, value in _fields(call, {"tag", "where"}):
            yield f"call {call.tag} {name}", _text(value)
    for name in ("secrets", "build_secrets"):
        if refs := getattr(spec, name):
            yield name, ", ".join(map(_secret, refs))
    for name in ("volumes", "build_volumes"):
        for mount in getattr(spec, name):
            yield f"{name.removesuffix('s')} {mount.path}", _volume(mount)
    if spec.image.steps:
        yield "image", "\n".join(_steps(spec.image, images))


def _steps(image: Image, images: bool) -> Iterator[str]:
    for step in image.steps:
        args: Mapping[str, object] = step.args
        if step.name == "env":
            args = {"vars": sorted(step.args.get("vars", {}))}
        yield f"{step.name} {_text(args)}" if images and args else step.name


def _secret(ref: SecretRef) -> str:
    """Return the description of a secret: the name of a secret with values in the script has no meaning for users."""
    if ref.name is None or "/" in ref.name:
        return "(in the script)"
    return f"{ref.environment}/{ref.name}" if ref.environment else ref.name


def _volume(mount: VolumeMount) -> str:
    place = f"{mount.name}/{mount.sub_path}" if mount.sub_path else mount.name
    return f"{place} (read-only)" if mount.read_only else place


def _fields(value: object, others: set[str]) -> Iterator[tuple[str, object]]:
    """Yield the fields that differ from their defaults, as a manifest has them."""
    fields: dict[str, object] = codec.encode(value, brief=True)
    for name, item in fields.items():
        if name not in others:
            yield name, item


def _text(value: object) -> str:
    text = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    )
    return _PASSWORD.sub(r"\1…@", text)
