"""Flag > environment > `config.toml` in the home > default, as one frozen Settings.

Made once by the command line (or by the server's own entry) and handed down; nothing reads the
environment again.
"""

import getpass
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport.contract import names
from homeport.contract.errors import BadRequest

DEFAULT_HTTP_PORT = 4663  # HOME on a phone's keys; 8000 and its like belong to users' servers
MAX_BODY_BYTES = 4 * 1024**3
BURST_S = 5.0
MAX_SOCKET_DIR = 70  # bytes; leaves 37 for `/c/ta-….sock` and the like


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this homeport runs."""

    home: Path
    host: str = "127.0.0.1"
    http_port: int = DEFAULT_HTTP_PORT  # 0: any free one
    domain: str = "localhost"
    workspace: str = "me"
    dev_suffix: str = "dev"
    server: str = ""  # URL of a remote server; empty: the one of this home
    token: str = ""  # what the API asks of callers over TCP
    api_port: int | None = None  # the API over TCP too, for other machines
    rate_limit: int | None = None  # requests/s; 0 off; None: 200 beyond loopback, off on it
    haproxy: str = ""  # path of the binary; empty: the wheel's, then PATH's
    log_cap_mib: int = 64  # of each app's log on disk
    cgroup: str = ""  # cgroup v2 directory for limits; `off`; empty: its own, if that is delegated
    zygote_mib: int = 1024  # what processes that wait to be forked may hold; 0: fork nothing

    @property
    def run_dir(self) -> Path:
        """Sockets, maps and pid files: nothing here outlives the server."""
        return self.home / "run"

    @property
    def socket_dir(self) -> Path:
        """Where Unix sockets live; mode 0700.

        A socket's path has room for 107 bytes (man 7 unix), so a home with a long path gets a
        directory with a short one.
        """
        if len(str(self.run_dir)) <= MAX_SOCKET_DIR:
            return self.run_dir
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"homeport-{os.getuid()}-{digest}"

    @property
    def control_socket(self) -> Path:
        """Where the control plane's API listens."""
        return self.socket_dir / "control.sock"

    @property
    def activator_socket(self) -> Path:
        """Where the ingress asks for a container."""
        return self.socket_dir / "activator.sock"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the ingress."""
        return self.host in {"127.0.0.1", "localhost", "::1"}

    @property
    def requests_per_s(self) -> int:
        """The rate limit in force; 0 means none."""
        if self.rate_limit is not None:
            return self.rate_limit
        return 0 if self.on_loopback else 200


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """The settings in force; `flags` that are None were not given.

    Raises `BadRequest` for a value that makes no sense, naming where it came from.
    """
    home = Path(flags.get("home") or environ.get("HOMEPORT_HOME") or "~/.homeport").expanduser()
    config = _read_config(home / "config.toml")
    values: dict[str, Any] = {"home": home.absolute(), "workspace": _login_name()}
    for key, convert in _KEYS.items():
        variable = f"HOMEPORT_{key.upper()}"
        for source, raw in (
            (f"--{key.replace('_', '-')}", flags.get(key)),
            (variable, environ.get(variable) or None),
            (f"`{key}` in {home / 'config.toml'}", config.get(key)),
        ):
            if raw is not None:
                values[key] = _converted(convert, raw, source)
                break
    return Settings(**values)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None


def _login_name() -> str:
    try:
        return names.slug(getpass.getuser()).strip("-") or "me"
    except (KeyError, OSError):
        return "me"


def _converted(convert: Any, raw: Any, source: str) -> Any:
    try:
        return convert(raw)
    except ValueError as error:
        raise BadRequest(f"{source} is {raw!r}: {error}") from None


def _port(raw: Any) -> int:
    number = _whole(raw)
    if not 0 <= number <= 65535:
        raise ValueError("a port is between 0 and 65535")
    return number


def _whole(raw: Any) -> int:
    try:
        number = int(str(raw))
    except ValueError:
        raise ValueError("a whole number is needed") from None
    if number < 0:
        raise ValueError("it cannot be negative")
    return number


def _label(raw: Any) -> str:
    text = names.slug(str(raw)).strip("-")
    if not text:
        raise ValueError("letters, digits and dashes are needed")
    return text


def _domain(raw: Any) -> str:
    text = str(raw).lower().strip(".")
    if not text or not all(names.is_label(part) for part in text.split(".")):
        raise ValueError("a domain such as `localhost` or `apps.example.com` is needed")
    return text


def _dev_suffix(raw: Any) -> str:
    if not names.is_dev_suffix(str(raw)):
        raise ValueError("1 to 8 letters or digits are needed")
    return str(raw).lower()


_KEYS: dict[str, Any] = {
    "host": str,
    "http_port": _port,
    "domain": _domain,
    "workspace": _label,
    "dev_suffix": _dev_suffix,
    "server": lambda raw: str(raw).rstrip("/"),
    "token": str,
    "api_port": _port,
    "rate_limit": _whole,
    "haproxy": lambda raw: str(Path(str(raw)).expanduser()),
    "log_cap_mib": _whole,
    "cgroup": str,
    "zygote_mib": _whole,
}
