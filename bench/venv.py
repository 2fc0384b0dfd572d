"""An environment for each peer, made on first use and kept: `~/.cache/homeport-bench`."""

import json
import subprocess
import sys
from pathlib import Path

CACHE = Path.home() / ".cache" / "homeport-bench"
INSTALL_S = 900.0


class NotInstalled(Exception):
    """The peer's packages could not be installed"""


def made(name: str, packages: list[str], *, fresh: bool = False) -> Path:
    """The environment's folder; newest releases, kept until `fresh` or other packages are asked."""
    folder = CACHE / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    record = folder / "bench-packages.json"
    if not fresh and record.exists() and json.loads(record.read_text()) == packages:
        return folder
    uv = ["uv", "--quiet"]
    python = ["--python", str(folder / "bin" / "python")]
    # not our tool's own: the peer gets the interpreter that homeport runs on
    _run([*uv, "venv", "--clear", "--no-project", "--python", sys.executable, str(folder)])
    _run([*uv, "pip", "install", "--upgrade", *python, *packages])
    record.write_text(json.dumps(packages))
    return folder


def versions(folder: Path, names: list[str]) -> dict[str, str]:
    """Which releases are in an environment."""
    words = ["uv", "--quiet", "pip", "list", "--format", "json"]
    told = _run([*words, "--python", str(folder / "bin" / "python")])
    found = {package["name"]: package["version"] for package in json.loads(told)}
    return {name: found[name] for name in names if name in found}


def _run(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=INSTALL_S, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"`{' '.join(words[:3])}`: {error}") from None
    if done.returncode:
        raise NotInstalled(f"`{' '.join(words)}`: {done.stderr.strip()[-500:]}")
    return done.stdout
