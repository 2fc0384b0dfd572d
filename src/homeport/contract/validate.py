"""Checks a manifest. The SDK and the server use the same code, because other clients may call the API too.

    read(data)         a manifest from JSON: its shape and types, then its rules
    check(manifest)    the rules alone, of a manifest that was made here

Both raise a `Failure` of status 400 that says what is wrong, and where in the user's script.
"""

import re
import typing
from collections.abc import Callable

from homeport.contract import checks, methods, names, parameters, shape
from homeport.contract.checks import MAX_NAME, MAX_WHERE
from homeport.contract.errors import BadRequest, ScriptError
from homeport.contract.image import RESERVED, Image, Step
from homeport.contract.manifest import (
    FunctionSpec,
    Manifest,
    Parameter,
    SecretRef,
    SourceFile,
    VolumeMount,
)
from homeport.contract.methods import MAX_METHODS
from homeport.contract.methods import TIMEOUT_S as TIMEOUT_S  # noqa: PLC0414 - for others, too
from homeport.contract.sizes import GIB

MAX_FUNCTIONS, MAX_FILES, MAX_STEPS = 500, 100_000, 500
MAX_FILE_BYTES = GIB
MAX_LIST = 10_000  # of anything else
MAX_PATH = 1024  # characters
MAX_CONTAINERS = 10_000
MAX_MIB = 2**30
MAX_CORES = 4096.0
MAX_SECRET = 32768  # characters of a value, as Modal's
#: The original's rule; what a program needs to start would be hidden by a volume at the others.
NO_VOLUME = ("/root", "/tmp", "/bin", "/etc", "/lib", "/lib64", "/run", "/sbin", "/usr")  # noqa: S108
SCALEDOWN_S = (2.0, 3600.0)
MAX_REGION = 62  # characters, as of a label (contract/labels.py)
MAX_GRACE_S = 3600.0

_MODULE = re.compile(r"[^/\\.\x00-\x1f\x7f]+(\.[^/\\.\x00-\x1f\x7f]+)*\Z")
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9+ ._-]{0,63}!?(:[1-9][0-9]{0,2})?\Z", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PYTHON = re.compile(r"[0-9A-Za-z.+-]{0,40}\Z", re.ASCII)
_TEXT, _TEXTS, _FLAG = "text", "texts", "true or false"
_VARIABLES, _SECONDS, _HASHES = "variables", "a number of seconds", "paths with hashes"
_POSITIONS = "a list of positions"
#: The kinds of the arguments of image steps, by the argument's name; other arguments are not checked.
_ARGUMENTS: dict[str, str] = {
    **dict.fromkeys(("packages", "commands", "modules", "optional_dependencies"), _TEXTS),
    **dict.fromkeys(("repositories", "git_user"), _TEXTS),
    **dict.fromkeys(("groups", "extras", "ignore", "with_", "without", "only"), _TEXTS),
    **dict.fromkeys(("path", "local_path", "remote_path", "module", "qualname"), _TEXT),
    **dict.fromkeys(("pyproject", "lockfile", "requirements", "constraints"), _TEXT),
    **dict.fromkeys(("find_links", "index_url", "extra_index_url"), _TEXTS),
    **dict.fromkeys(("extra_options", "tag", "image_id"), _TEXT),
    **dict.fromkeys(("python_version", "poetry_version", "source_sha256"), _TEXT),
    **dict.fromkeys(("copy", "pre", "frozen", "force_build", "whole"), _FLAG),
    **dict.fromkeys(("vars", "env"), _VARIABLES),
    "files": _HASHES,
    "timeout": _SECONDS,
    **dict.fromkeys(("secrets", "volumes"), _POSITIONS),
}
#: The arguments that a step must have.
_NEEDED = {
    "pip_install": ("packages",),
    "run_commands": ("commands",),
    "entrypoint": ("commands",),
    "run_function": ("module", "qualname"),
    "pip_install_from_pyproject": ("pyproject",),
    "uv_sync": ("pyproject",),
    "poetry_install_from_file": ("pyproject",),
    "workdir": ("path",),
    "env": ("vars",),
    "add_local_file": ("local_path", "remote_path"),
    "add_local_dir": ("local_path", "remote_path"),
}


def read(data: object) -> Manifest:
    """Return the manifest in a decoded JSON value."""
    manifest = shape.read(Manifest, data, "manifest")
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Raise an error for the first wrong value in a manifest."""
    if not names.is_object_name(manifest.app_name):
        raise BadRequest(
            f"Invalid App name: '{manifest.app_name[:80]}'.",
            hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
        )
    checks.count(manifest.functions, MAX_FUNCTIONS, "functions")
    checks.count(manifest.files, MAX_FILES, "files")
    for key, value in manifest.tags.items():
        if not (names.is_tag(key) and names.is_tag(value)):
            raise BadRequest(f"Invalid tag '{key[:80]}': '{value[:80]}'.")
    checks.text("script", manifest.script, MAX_PATH)
    if not _PYTHON.match(manifest.python_version):
        raise BadRequest(f"`python_version` cannot be {manifest.python_version[:40]!r}")
    checks.unique("function", [spec.name for spec in manifest.functions])
    for spec in manifest.functions:
        _function(spec)
    _files(manifest.files)
    checks.count(manifest.build_files, MAX_FILES, "files")
    for file in manifest.build_files:
        if file.path != file.sha256:
            raise BadRequest("a file that a step reads is named by its hash")
    _files(manifest.build_files)


def is_gpu(text: str) -> bool:
    """Return whether the text is a value for `gpu=`: a model, perhaps `!`, perhaps `:` and a count."""
    return bool(_GPU.match(text))


def is_path(path: str, *, absolute: bool = False) -> bool:
    """Return whether the text is a path of a file in a tree: normalized, and not leading out of the tree.

    With `absolute`, an absolute path in a container is allowed too.
    """
    if not path or len(path) > MAX_PATH or not shape.is_text(path):
        return False
    if path.startswith("/") and not absolute:
        return False
    parts = path.removeprefix("/").split("/")
    return not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)


def may_mount(path: str) -> bool:
    """Return whether a volume may be mounted there: it must not hide files that a program needs to start."""
    reserved = f"{path}/".startswith(tuple(f"{kernels}/" for kernels in RESERVED))
    return path not in NO_VOLUME and not reserved


def _function(spec: FunctionSpec) -> None:
    def whole(name: str, value: int | None, low: int, high: int) -> None:
        if value is not None and not low <= value <= high:
            raise ScriptError(
                f"`{name}` of `{spec.name}` must be from {low} to {high}, not {value}",
                where=spec.where,
            )

    def number(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:  # also false for a NaN
            raise ScriptError(
                f"`{name}` of `{spec.name}` must be from {low:g} to {high:g}, not {value:g}",
                where=spec.where,
            )

    checks.text("where", spec.where, MAX_WHERE)
    if not checks.FUNCTION.match(spec.name):
        raise ScriptError(f"a function cannot be called {spec.name[:80]!r}", where=spec.where)
    if not _MODULE.match(spec.module) or len(spec.module) > MAX_NAME:
        raise ScriptError(f"{spec.module[:80]!r} is not the name of a module", where=spec.where)
    checks.qualname(spec.qualname, spec.where)
    methods.check(spec)
    _parameters(spec)
    _image(spec.image)
    checks.count(spec.secrets, MAX_LIST, "secrets")
    checks.count(spec.build_secrets, MAX_LIST, "secrets")
    for ref in (*spec.secrets, *spec.build_secrets):
        _secret(ref)
    checks.count(spec.volumes, MAX_METHODS, "volumes")
    checks.unique("path of a volume", [mount.path for mount in spec.volumes])
    checks.count(spec.build_volumes, MAX_METHODS, "volumes of image steps")
    for mount in (*spec.volumes, *spec.build_volumes):
        _volume(mount)
    whole("min_containers", spec.min_containers, 0, MAX_CONTAINERS)
    whole("max_containers", spec.max_containers, 1, MAX_CONTAINERS)
    whole("buffer_containers", spec.buffer_containers, 0, MAX_CONTAINERS)
    if spec.max_containers is not None:
        whole("min_containers", spec.min_containers, 0, spec.max_containers)
    whole("max_inputs", spec.max_inputs, 1, names.MAX_INPUTS)
    whole("target_inputs", spec.target_inputs, 1, spec.max_inputs)
    number("scaledown_window", spec.scaledown_window_s, *SCALEDOWN_S)
    number("timeout", spec.timeout_s, *TIMEOUT_S)
    number("startup_timeout", spec.startup_timeout_s, *TIMEOUT_S)
    if spec.exit_grace_s is not None:
        number("exit_grace_period", spec.exit_grace_s, 0, MAX_GRACE_S)
    if spec.cpu is not None:
        number("cpu", spec.cpu[0], 0, MAX_CORES)
        number("cpu", spec.cpu[0] if spec.cpu[1] is None else spec.cpu[1], spec.cpu[0], MAX_CORES)
    if spec.memory_mib is not None:
        whole("memory", spec.memory_mib[0], 0, MAX_MIB)
        whole("memory", spec.memory_mib[1], spec.memory_mib[0], MAX_MIB)
    whole("ephemeral_disk", spec.ephemeral_disk_mib, 1, MAX_MIB)
    checks.count(spec.region, 32, "regions")
    for region in spec.region:
        if not 0 < len(region) <= MAX_REGION:
            raise ScriptError(f"{region[:80]!r} is not a region", where=spec.where)
    checks.count(spec.gpu, 32, "kinds of GPU")
    for gpu in spec.gpu:
        if not is_gpu(gpu):
            raise ScriptError(f"{gpu[:80]!r} is not a GPU such as `H100:2`", where=spec.where)


def _parameters(spec: FunctionSpec) -> None:
    checks.count(spec.parameters, MAX_METHODS, "class parameters")
    checks.unique("class parameter", [parameter.name for parameter in spec.parameters])
    if spec.parameters and not spec.is_class:
        raise ScriptError(
            f"`{spec.name}` has class parameters and is not a class", where=spec.where
        )
    for parameter in spec.parameters:
        if not parameter.name.isidentifier() or len(parameter.name) > MAX_NAME:
            raise ScriptError(f"{parameter.name[:80]!r} cannot be a parameter", where=spec.where)
        if parameter.type not in parameters.TYPES:
            raise ScriptError(
                f"Class parameter '{parameter.name}': {parameter.type[:80]} is not a type for one",
                where=spec.where,
            )
        _default(parameter, spec.where)


def _default(parameter: Parameter, where: str) -> None:
    if parameter.required or parameter.default is None:
        if parameter.required and parameter.default is not None:
            raise ScriptError(f"`{parameter.name}` is required and has a default", where=where)
        return
    value = parameter.default
    if type(value).__name__ != parameter.type or (isinstance(value, str) and "\0" in value):
        raise ScriptError(
            f"Class parameter '{parameter.name}': the default must be {parameter.type}", where=where
        )
    if len(value if isinstance(value, (str, bytes)) else str(value)) > parameters.MAX_BYTES:
        raise ScriptError(f"the default of `{parameter.name}` is too long", where=where)


def _image(image: Image) -> None:
    checks.count(image.steps, MAX_STEPS, "image steps")
    for step in image.steps:
        checks.text("name", step.name, MAX_NAME)
        checks.text("where", step.where, MAX_WHERE)
        for key in _NEEDED.get(step.name, ()):
            if step.args.get(key) is None:
                raise _step_error(step, f"lacks `{key}`")
        for key, value in step.args.items():
            kind = _ARGUMENTS.get(key)
            if kind is not None and value is not None and not _KINDS[kind](value):
                raise _step_error(step, f"takes {kind} for `{key}`")


def _secret(ref: SecretRef) -> None:
    if (ref.name is None) == (ref.values is None):
        raise ScriptError("a secret has a name, or values of its own", where=ref.where)
    if ref.name is not None and not names.is_object_name(ref.name):
        raise ScriptError(f"Invalid Secret name: '{ref.name[:80]}'.", where=ref.where)
    for key, value in (ref.values or {}).items():
        if not names.is_secret_key(key):
            raise ScriptError(
                f"`{key[:80]}` cannot be the name of an environment variable", where=ref.where
            )
        if len(value) > MAX_SECRET:
            raise ScriptError(
                f"the value of `{key[:80]}` has more than {MAX_SECRET} characters", where=ref.where
            )
    for key in ref.required_keys:
        if not names.is_secret_key(key):
            raise ScriptError(f"`{key[:80]}` cannot be a key of a secret", where=ref.where)


def _volume(mount: VolumeMount) -> None:
    path, where = mount.path, mount.where
    checks.text("where", where, MAX_WHERE)
    if not path.startswith("/") or not is_path(path, absolute=True):
        raise ScriptError(f"Volume {path[:200]} must be a canonical, absolute path.", where=where)
    if not may_mount(path):
        raise ScriptError(f"Volume {path} cannot be mounted at '{path}'.", where=where)
    if not names.is_volume_name(mount.name):
        raise ScriptError(f"Invalid Volume name: '{mount.name[:80]}'.", where=where)
    if mount.sub_path and not is_path(mount.sub_path):
        raise ScriptError(
            f"`sub_path={mount.sub_path[:200]!r}` is not a path in a volume", where=where
        )
    if mount.key:
        raise BadRequest("the server itself says which volume a name means")


def _files(files: tuple[SourceFile, ...]) -> None:
    checks.unique("file", [file.path for file in files])
    directories: set[str] = set()
    for file in files:
        above = file.path.rpartition("/")[0]
        while above and above not in directories:
            directories.add(above)
            above = above.rpartition("/")[0]
    for file in files:
        if not is_path(file.path, absolute=True):
            raise BadRequest(f"{file.path[:200]!r} is not a path of a file in the source tree")
        if file.path in directories:
            raise BadRequest(f"`{file.path[:200]}` is a file and a directory")
        if not _SHA256.match(file.sha256):
            raise BadRequest(f"{file.sha256[:80]!r} is not a SHA-256 in hex")
        if not 0 <= file.size_bytes <= MAX_FILE_BYTES or not 0 <= file.mode <= 0o7777:
            raise BadRequest(f"the size or the mode of `{file.path[:200]}` cannot be")


def _step_error(step: Step, why: str) -> ScriptError:
    return ScriptError(f"the image step `{step.name}` {why}", where=step.where)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _positions(value: object) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < MAX_LIST for item in value
    )


def _variables(value: object) -> bool:
    return isinstance(value, dict) and all(
        key and "=" not in key and isinstance(text, str) for key, text in value.items()
    )


def _hashes(value: object) -> bool:
    return isinstance(value, dict) and all(
        is_path(path, absolute=True) and isinstance(digest, str) and _SHA256.match(digest)
        for path, digest in value.items()
    )


def _seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= typing.cast(float, value) <= TIMEOUT_S[1] * 7


_KINDS: dict[str, Callable[[object], bool]] = {
    _TEXT: lambda value: isinstance(value, str),
    _TEXTS: lambda value: isinstance(value, str) or _texts(value),
    _FLAG: lambda value: isinstance(value, bool),
    _VARIABLES: _variables,
    _HASHES: _hashes,
    _SECONDS: _seconds,
    _POSITIONS: _positions,
}
