"""Flag > environment > `config.toml` in the home > default, as one frozen Settings.

The command line, or the server's own entry, makes it once and passes it on; nothing else reads environment
variables.
"""

import difflib
import getpass
import hashlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from homeport.contract import names
from homeport.contract.errors import BadRequest

DEFAULT_HTTP_PORT = 4663  # HOME on a phone's keys; 8000 and its like belong to users' servers
MAX_SOCKET_DIR = 70  # bytes; leaves 37 for names such as `/c/ta-….sock`


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one homeport."""

    home: Path  # the directory where everything is kept; `~/.homeport` by default
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0: every interface of this machine
    http_port: int = DEFAULT_HTTP_PORT  # port of the main URLs; 0: any free one
    domain: str = "localhost"  # URLs are `<workspace>--<label>.<domain>`
    workspace: str = "me"  # first part of each URL; your login name by default
    dev_suffix: str = "dev"  # last part of a session's URLs, 1 to 8 letters or digits
    server: str = ""  # URL of a remote server's API; empty: the server of this home
    token: str = ""  # password of the API over TCP: the server asks for it, commands send it
    api_port: int | None = None  # port of the API for other machines; it needs `token`
    rate_limit: int | None = None  # requests/s; 0 off; None: 200 beyond loopback, off on it
    trusted_proxies: str = (
        ""  # networks of proxies that tell scheme, host and client: `10.0.0.0/8,::1`
    )
    haproxy: str = ""  # path of the binary; empty: the wheel's, then PATH's
    log_cap_mib: int = 64  # MiB of each app's log on disk
    cgroup: str = ""  # cgroup v2 directory for limits; `off`; empty: its own, if that is delegated
    isolation: str = "auto"  # a sandbox for each container: `on`, `off`, or `auto` (if possible)
    zygote_mib: int = 1024  # MiB for processes that wait to be forked; 0: fork nothing
    max_parameter_pools: int = (
        40  # values of a function's class parameters that have containers at once
    )
    database: str = field(default="", repr=False)  # URL of PostgreSQL; empty: a file in the home
    given: tuple[str, ...] = ()  # the keys that were set; the others have their defaults

    def sent(self) -> dict[str, Any]:
        """Return all of it as JSON has it, for the server that a command starts."""
        return {**asdict(self), "home": str(self.home)}

    @staticmethod
    def received(data: Mapping[str, Any]) -> "Settings":
        """Return the settings that `sent` made `data` from; `TypeError` or `KeyError` for another version's."""
        return Settings(
            **{**data, "home": Path(data["home"]), "given": tuple(data.get("given", ()))}
        )

    def told(self) -> dict[str, str | int | None]:
        """Return the settings that a running server shows: those for which a command may ask differently."""
        own = {"home", "server", "token", "database", "given"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}

    @property
    def volumes_dir(self) -> Path:
        """The files of volumes."""
        return self.home / "volumes"

    @property
    def run_dir(self) -> Path:
        """The directory for sockets, maps and pid files, which are useless after the server's end."""
        return self.home / "run"

    @property
    def socket_dir(self) -> Path:
        """The directory of Unix sockets; mode 0700.

        A socket's path has room for 107 bytes (man 7 unix), and blanks and quotes mean something in
        HAProxy's configuration. So a home with a long or an unusual path gets a directory with a short and
        plain path. It is not in TMPDIR, because every command must find the same directory.
        """
        plain = re.fullmatch(r"[A-Za-z0-9/._~+@-]+", str(self.run_dir)) is not None
        if plain and len(os.fsencode(self.run_dir)) <= MAX_SOCKET_DIR:
            return self.run_dir
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"homeport-{os.getuid()}-{digest}"  # noqa: S108 - its owner is checked

    @property
    def control_socket(self) -> Path:
        """The socket of the control plane's API."""
        return self.socket_dir / "control.sock"

    @property
    def calls_socket(self) -> Path:
        """The socket of the ingress for containers. Its directory, which they see, has nothing else in it."""
        return self.socket_dir / "calls" / "calls.sock"

    @property
    def inside_socket(self) -> Path:
        """The socket on which the ingress passes on what containers ask of the control plane."""
        return self.socket_dir / "inside.sock"

    @property
    def urls_socket(self) -> Path:
        """The socket of the ingress that leads containers with a network of their own to URLs."""
        return self.socket_dir / "urls" / "urls.sock"

    @property
    def activator_socket(self) -> Path:
        """The socket on which the ingress asks for a container."""
        return self.socket_dir / "activator.sock"

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the ingress."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def local_host(self) -> str:
        """The ingress's address for this machine, as in a URL."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"[{here}]" if ":" in here else here

    @property
    def requests_per_s(self) -> int:
        """The rate limit in force; 0 means none."""
        if self.rate_limit is not None:
            return self.rate_limit
        return 0 if self.on_loopback else 200


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Return the settings in force; `flags` that are None were not given.

    Raises `BadRequest` for a wrong value; the message says where the value came from.
    """
    home = _home(flags.get("home") or environ.get("HOMEPORT_HOME") or "~/.homeport")
    values = read_config(home / "config.toml")
    for key, setting in KEYS.items():
        variable = f"HOMEPORT_{key.upper()}"
        if flags.get(key) is not None:
            values[key] = setting.read(f"--{key.replace('_', '-')}", flags[key])
        elif environ.get(variable):
            values[key] = setting.read(variable, environ[variable])
    if values.get("server") and not values.get("token"):
        raise BadRequest(
            "HOMEPORT_SERVER is set, and there is no token for it",
            hint="set HOMEPORT_TOKEN to the token that the server was started with",
        )
    return Settings(home=home, given=tuple(values), **{"workspace": _login_name(), **values})


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is not one."""
    known = [*(f"HOMEPORT_{key.upper()}" for key in KEYS), "HOMEPORT_HOME", "HOMEPORT_FORCE_BUILD"]
    return [
        f"homeport does not know the variable {name}{_meant(name, known)}"
        for name in sorted(environ)
        if name.startswith("HOMEPORT_") and name not in known and name not in _OURS
    ]


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": do you mean {near[0]}?" if near else ""


def _home(raw: Any) -> Path:
    try:
        # Resolve links, because the directory of the sockets is computed from the path.
        home = Path(raw).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise BadRequest(f"HOMEPORT_HOME is {str(raw)!r}: {error}") from None
    if (found := re.search(r"[:\x00-\x1f\x7f\ud800-\udfff]", str(home))) is not None:
        # `:` ends a path in PATH; the others break a line of a configuration.
        raise BadRequest(
            f"HOMEPORT_HOME is {str(home)!r}: a home's path cannot have a {found[0]!r}",
            hint="name another directory in HOMEPORT_HOME",
        )
    return home


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a `config.toml`; none if the file does not exist."""
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    for key in config:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise BadRequest(
                f"there is no setting `{key}`, which {path} has",
                hint=f"do you mean `{near[0]}`?" if near else f"there are {', '.join(KEYS)}",
            )
    return {key: KEYS[key].read_typed(f"`{key}` in {path}", config[key]) for key in config}


def _login_name() -> str:
    try:
        return names.slug(getpass.getuser()).strip("-") or "me"
    except (KeyError, OSError):
        return "me"


@dataclass(frozen=True, slots=True)
class _Setting:
    """Reads a setting's value, and knows its type in TOML."""

    convert: Callable[[Any], Any]
    kind: type = str
    secret: bool = False  # no message shows it

    def read(self, source: str, raw: Any) -> Any:
        """Return the value of a flag or a variable."""
        try:
            return self.convert(raw)
        except ValueError as error:
            told = "wrong" if self.secret else repr(raw)
            raise BadRequest(f"{source} is {told}: {error}") from None

    def read_typed(self, source: str, raw: Any) -> Any:
        """Return the value of a key in a TOML file; its type must be right."""
        if type(raw) is not self.kind:  # a bool is an int in Python
            told = "wrong" if self.secret else repr(raw)
            raise BadRequest(f"{source} is {told}: {_WANTED[self.kind]}")
        return self.read(source, raw)


_WANTED = {int: "a whole number is needed, without quotes", str: "text in quotes is needed"}


def _port(raw: Any) -> int:
    number = _whole(raw)
    if not 0 <= number <= 65535:
        raise ValueError("a port is between 0 and 65535")
    return number


def _whole(raw: Any) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(raw).strip()):
        raise ValueError("a whole number is needed")
    if (number := int(raw)) < 0:
        raise ValueError("it cannot be negative")
    return number


def _host(raw: str) -> str:
    """Return an address in its usual spelling, because it is compared with the addresses of sockets."""
    text = raw.strip().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError("an address is needed, such as 127.0.0.1, 0.0.0.0 or ::1") from None


def _networks(raw: str) -> str:
    """Return networks, or single addresses, in their usual spelling."""
    found = []
    for text in filter(None, (part.strip() for part in raw.split(","))):
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise ValueError(f"`{text}` is not a network such as 10.0.0.0/8 ({error})") from None
    return ",".join(found)


def _label(raw: str) -> str:
    text = names.slug(raw).strip("-")
    if not text:
        raise ValueError("letters, digits and dashes are needed")
    return text


def _domain(raw: str) -> str:
    text = raw.lower().strip(".")
    if not text or not all(names.is_label(part) for part in text.split(".")):
        raise ValueError("a domain such as `localhost` or `apps.example.com` is needed")
    return text


def _dev_suffix(raw: str) -> str:
    if not names.is_dev_suffix(raw):
        raise ValueError("1 to 8 letters or digits are needed")
    return raw.lower()


def _server(raw: str) -> str:
    text = raw.strip().rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[!-~]*)?", text):
        raise ValueError("a URL such as http://10.0.0.2:4670 is needed")
    return text


def _database(raw: str) -> str:
    text = raw.strip()
    if not re.fullmatch(r"(postgres|postgresql|postgresql\+psycopg|sqlite)://[!-~]+", text):
        raise ValueError("a URL such as postgresql://user:password@host/homeport is needed")
    return text


def _path(raw: str) -> str:
    try:
        return str(Path(raw).expanduser())
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _isolation(raw: str) -> str:
    if raw not in {"auto", "on", "off"}:
        raise ValueError("`auto`, `on` or `off` is needed")
    return raw


def _token(raw: str) -> str:
    if not re.fullmatch(r"[!-~]+", raw.strip()):
        raise ValueError("printable characters without blanks are needed")
    return raw.strip()


#: Variables that homeport sets for its own processes and containers, where a user may run commands too.
_OURS = frozenset(
    f"HOMEPORT_{name}"
    for name in (
        "APP", "CALLS_APP", "CALLS_SCOPE", "CALLS_SOCKET", "CALLS_TOKEN", "DECLARE_FD", "FUNCTION", "IS_REMOTE", "LIFELINE_FD", "REPORT_FD", "REVISION",
        "ZYGOTE_FD",
    )
)  # fmt: skip

KEYS = {
    "host": _Setting(_host),
    "trusted_proxies": _Setting(_networks),
    "http_port": _Setting(_port, int),
    "domain": _Setting(_domain),
    "workspace": _Setting(_label),
    "dev_suffix": _Setting(_dev_suffix),
    "server": _Setting(_server, secret=True),  # it may hold a password
    "token": _Setting(_token, secret=True),
    "api_port": _Setting(_port, int),
    "rate_limit": _Setting(_whole, int),
    "haproxy": _Setting(_path),
    "log_cap_mib": _Setting(_whole, int),
    "cgroup": _Setting(str),
    "isolation": _Setting(_isolation),
    "zygote_mib": _Setting(_whole, int),
    "max_parameter_pools": _Setting(_whole, int),
    "database": _Setting(_database, secret=True),  # it may hold a password
}
