"""Flag > environment > `config.toml` in the home > default, as one frozen Settings.

The command line, or the server's own entry, makes it once and passes it on; nothing else reads environment
variables.
"""

import getpass
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Any

from homeport.contract import names
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.settings import profiles
from homeport.settings.keys import ALSO, KEYS
from homeport.settings.places import Places

DEFAULT_HTTP_PORT = 4663  # HOME on a phone's keys; 8000 and its like belong to users' servers
DEFAULT_HTTPS_PORT = 4664
PUBLIC = ("acme", "files")  # values of `tls` whose certificates every browser trusts
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Places):
    """The settings of one homeport."""

    home: Path  # the directory where everything is kept; `~/.homeport` by default
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0: every interface of this machine
    http_port: int = DEFAULT_HTTP_PORT  # port of the main URLs; 0: any free one
    domain: str = "localhost"  # URLs are `<workspace>--<label>.<domain>`
    workspace: str = "me"  # first part of each URL; your login name by default
    environment: str = "main"  # of commands and scripts; MODAL_ENVIRONMENT names it too
    dev_suffix: str = "dev"  # last part of a session's URLs, 1 to 8 letters or digits
    #: URL of a remote server's API; empty: the server of this home
    server: str = field(default="", repr=False)
    #: of the API: a server's first one, an admin's; commands send it
    token: str = field(default="", repr=False)
    server_ca: str = ""  # path of the CA's certificate of a remote server; empty: the usual CAs
    api_port: int | None = None  # port of the API by plain HTTP, on loopback alone
    rate_limit: int | None = None  # requests/s; 0 off; None: 200 beyond loopback, off on it
    cors_preflights: str = "refuse"  # or `pass`: preflights of CORS need no proxy token
    #: Networks of proxies that tell scheme, host and client: `10.0.0.0/8,::1`.
    trusted_proxies: str = ""
    region: str = ""  # of this machine, for functions with `region`; other machines have a label
    shared_volumes: str = ""  # directory of volumes that all machines share, such as one of NFS; empty: they are in the home, for this machine alone
    entrance: str = "on"  # of a machine that has joined: visitors come in there too, at the server's ports; or `off`
    #: Of each machine on which a server of this home may run; other machines find it there.
    standby_addresses: str = ""
    node_networks: str = ""  # networks where other machines may have their containers, besides the address each connects from
    haproxy: str = ""  # path of the binary; empty: the wheel's, then PATH's
    log_cap_mib: int = 64  # MiB of each app's log on disk
    request_cap_mib: int = 64  # MiB on disk of the records of all requests; 0: none are kept
    request_details: str = ""  # what a record has too: `queries`, `addresses`, or both
    #: Fields that are not kept of captured requests, besides those with credentials.
    capture_removes: str = ""
    #: `otlp`: export requests as spans of OpenTelemetry; needs `homeport[otel]`.
    tracing: str = "off"
    #: The receiver; OTEL_EXPORTER_OTLP_ENDPOINT names it too.
    otlp_endpoint: str = field(default="http://localhost:4318", repr=False)
    otlp_headers: str = field(
        default="", repr=False
    )  # sent there: `name=value,…`; OTEL_EXPORTER_OTLP_HEADERS names them too
    trace_share: float = 1.0  # of requests without a `traceparent`, the share that is exported
    audit_days: int = 90  # how long the audit log is kept, at most 200,000 entries
    cgroup: str = ""  # cgroup v2 directory for limits; `off`; empty: its own, if that is delegated
    isolation: str = "auto"  # a sandbox for each container: `on`, `off`, or `auto` (if possible)
    zygote_mib: int = 1024  # MiB for processes that wait to be forked; 0: fork nothing
    #: Values of a function's class parameters that have containers at once.
    max_parameter_pools: int = 40
    database: str = field(default="", repr=False)  # URL of PostgreSQL; empty: a file in the home
    tls: str = "off"  # HTTPS with certificates by `acme`, of `files`, or of a `local` CA; or `off`
    https_port: int = DEFAULT_HTTPS_PORT  # port of HTTPS; 0: any free one
    tls_files: str = ""  # directory of certificates in PEM; empty: `tls` in the home
    email: str = ""  # your address for the ACME server, which may write about certificates
    acme_directory: str = LETS_ENCRYPT  # URL of the ACME server
    acme_ca: str = ""  # path of the CA certificates to trust for the ACME server; empty: as usual
    dns: str = ""  # how to prove that the domain is yours: by `rfc2136`, a `hook` or `lexicon`
    dns_server: str = ""  # the DNS server that takes updates (RFC 2136): `ns.example.com:53`
    dns_key: str = field(default="", repr=False)  # its TSIG key: `hmac-sha256:NAME:SECRET`
    dns_zone: str = ""  # the zone to update; empty: asked of DNS
    dns_hook: str = ""  # path of a command that sets a TXT record: `HOOK set|remove NAME VALUE`
    dns_provider: str = ""  # lexicon's name of your DNS provider; its variables are `LEXICON_…`
    dns_resolver: str = ""  # DNS server that is asked where domains lead; empty: the system's
    public_addresses: str = ""  # of this server, with commas; empty: those of its interfaces
    ray_node_types: str = ""  # machines that Ray could add, so that functions which none has room for wait for one: `large: cpu=32 memory=131072; a100: cpu=8 memory=65536 gpu=A100:2 region=eu-west`
    ray: str = ""  # address of a Ray cluster that this machine is in, which is asked for machines: `10.0.0.1:6379`, or `auto`; needs `homeport[cluster]`
    given: tuple[str, ...] = ()  # the keys that were set; the others have their defaults

    def sent(self) -> dict[str, Any]:
        """Return all of it as JSON has it, for the server that a command starts."""
        return {**asdict(self), "home": str(self.home)}

    @staticmethod
    def received(data: Mapping[str, Any]) -> "Settings":
        """Return the settings from the data that `sent` made; `TypeError` or `KeyError` if another version made it."""
        return Settings(
            **{**data, "home": Path(data["home"]), "given": tuple(data.get("given", ()))}
        )

    def shown(self) -> dict[str, str | int | float | None]:
        """Return the settings that a running server shows. The omitted ones belong to each command, or are secret."""
        own = {
            "home",
            "server",
            "token",
            "server_ca",
            "environment",
            "database",
            "dns_key",
            "otlp_endpoint",
            "otlp_headers",
            "given",
        }
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}

    def records(self, detail: str) -> bool:
        """Return whether the records of requests have this detail."""
        return detail in self.request_details.split(",")

    @property
    def volumes_dir(self) -> Path:
        """The files of volumes."""
        return Path(self.shared_volumes) if self.shared_volumes else self.home / "volumes"

    @property
    def tls_dir(self) -> Path:
        """The user's own certificates, for `tls = files`."""
        return Path(self.tls_files) if self.tls_files else self.home / "tls"

    @property
    def own_ca(self) -> Path | None:
        """The certificate of a CA that only this server's own users trust; None if all clients trust the CA."""
        if self.tls == "local":
            return self.local_ca
        return Path(self.acme_ca) if self.tls == "acme" and self.acme_ca else None

    @property
    def scheme(self) -> str:
        """The scheme of every URL."""
        return "http" if self.tls == "off" else "https"

    @property
    def url_port(self) -> int:
        """The port of every URL."""
        return self.http_port if self.tls == "off" else self.https_port

    def url(self, host: str) -> str:
        """Return the URL of a host; it has no port if that is the scheme's own.

        >>> Settings(home=Path("/h"), tls="acme", https_port=443).url("shop.example.com")
        'https://shop.example.com'
        """
        usual = {"http": 80, "https": 443}[self.scheme]
        port = "" if self.url_port == usual else f":{self.url_port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def tunnels_have_tls(self) -> bool:
        """Whether a new host name has a certificate at once: from a wildcard, or from a local CA."""
        return self.tls in ("files", "local") or (self.tls == "acme" and self.dns != "")

    @property
    def run_dir(self) -> Path:
        """The directory for sockets, maps and pid files; each machine has its own if the home is on a shared file system."""
        if not self.standby_addresses:
            return self.home / "run"
        name = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)
        return self.home / f"run-{name}"

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
    home = _home(flags["home"]) if flags.get("home") else home_of(environ)
    values = read_config(home / "config.toml")
    for key, setting in KEYS.items():
        variable = f"HOMEPORT_{key.upper()}"
        if flags.get(key) is not None:
            # A script can name the environment too, by `environment_name=`, so the message names no
            # flag.
            flag = "the environment" if key == "environment" else f"--{key.replace('_', '-')}"
            values[key] = setting.read(flag, flags[key])
        elif environ.get(variable):
            values[key] = setting.read(variable, environ[variable])
        elif (alias := ALSO.get(key, "")) and environ.get(alias):
            values[key] = setting.read(alias, environ[alias])
    saved = profiles.read(home)
    is_named = any(environ.get(name) for name in ("HOMEPORT_ENVIRONMENT", "MODAL_ENVIRONMENT"))
    if not (flags.get("environment") or is_named) and (chosen := saved.environment_of(environ)):
        values["environment"] = KEYS["environment"].read("the profile", chosen)
    if (profile := saved.chosen(environ)) is not None:
        values |= {
            "server": profile.server,
            "token": profile.token,
            "server_ca": profile.server_ca,
        }
    if values.get("server") and not values.get("token"):
        raise BadRequest(
            "HOMEPORT_SERVER is set, and there is no token for it",
            hint="set HOMEPORT_TOKEN to a token of that server, or log in with `homeport login URL`",
        )
    _check_tls(values)
    keys = tuple(values)
    return Settings(
        home=home, given=keys, **{"workspace": _login_name(), **_ports(values), **values}
    )


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the home that the environment names."""
    return _home(environ.get("HOMEPORT_HOME") or "~/.homeport")


def of_server(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a server process.

    A profile, or another server's URL, is for commands: its token must not open this server.
    """
    own = load({**environ, "HOMEPORT_SERVER": "", profiles.VARIABLE: profiles.LOCAL})
    if own.server:  # it comes from config.toml, and so does the token
        own = replace(own, server="", server_ca="", token="")
    return own


def _ports(values: Mapping[str, Any]) -> dict[str, int]:
    """Return the default ports. With public certificates they are those of HTTP and HTTPS, which an
    ACME server and browsers use.
    """
    return {"http_port": 80, "https_port": 443} if values.get("tls") in PUBLIC else {}


def _check_tls(values: Mapping[str, Any]) -> None:
    """Raise `BadRequest` if a setting of TLS needs another one that is missing."""
    domain = values.get("domain", "localhost")
    if values.get("tls") == "acme" and f".{domain}".endswith(".localhost"):
        raise BadRequest(
            f"`tls` is `acme`, and no ACME server gives certificates for `{domain}`",
            hint="set HOMEPORT_DOMAIN to a domain of yours that leads here, or HOMEPORT_TLS to `local`",
        )
    needed = {"rfc2136": "dns_server", "hook": "dns_hook", "lexicon": "dns_provider"}
    key = needed.get(values.get("dns", ""))
    if key is not None and not values.get(key):
        raise BadRequest(
            f"`dns` is `{values['dns']}`, and there is no `{key}`",
            hint=f"set HOMEPORT_{key.upper()}, or `{key}` in config.toml",
        )
    ports = {"http_port": DEFAULT_HTTP_PORT, "https_port": DEFAULT_HTTPS_PORT, **_ports(values)}
    ports = {key: values.get(key, port) for key, port in ports.items()}
    if values.get("tls", "off") != "off" and 0 != ports["http_port"] == ports["https_port"]:
        raise BadRequest(
            f"HTTP and HTTPS have the same port, {ports['https_port']}",
            hint="set HOMEPORT_HTTP_PORT or HOMEPORT_HTTPS_PORT to another one",
        )


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is not one."""
    variables = [
        *(f"HOMEPORT_{key.upper()}" for key in KEYS),
        "HOMEPORT_HOME",
        "HOMEPORT_FORCE_BUILD",
        profiles.VARIABLE,
    ]
    return [
        f"homeport does not know the variable {name}{_suggestion(name, variables)}"
        for name in sorted(environ)
        if name.startswith("HOMEPORT_") and name not in variables and name not in _OURS
    ]


def _suggestion(name: str, variables: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, variables, n=1)
    return f": do you mean {near[0]}?" if near else ""


def _home(raw: Any) -> Path:
    try:
        # Resolve links, because the directory of the sockets is computed from the path.
        home = Path(raw).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise BadRequest(f"HOMEPORT_HOME is {str(raw)!r}: {error}") from None
    if (forbidden := re.search(r"[:\x00-\x1f\x7f\ud800-\udfff]", str(home))) is not None:
        # `:` ends a path in PATH; the others break a line of a configuration.
        raise BadRequest(
            f"HOMEPORT_HOME is {str(home)!r}: a home's path cannot have a {forbidden[0]!r}",
            hint="name another directory in HOMEPORT_HOME",
        )
    return home


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a `config.toml`; none if the file does not exist."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise BadRequest(
            f"{path.parent} cannot be a home: it is a file, or lies below one",
            hint="name another directory in HOMEPORT_HOME",
        ) from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    import tomllib  # 3 ms of a start, which most homes do not need

    try:
        config = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{path} is not valid TOML: {error}") from None
    for key in config:
        if key not in KEYS:
            import difflib

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


#: Variables that homeport sets for its own processes and containers, where a user may run commands too.
_OURS = frozenset(
    f"HOMEPORT_{name}"
    for name in (
        "APP", "CALLS_APP", "CALLS_KEY", "CALLS_SCOPE", "CALLS_SOCKET", "CALLS_TOKEN", "DECLARE_FD", "FUNCTION", "IS_REMOTE", "LIFELINE_FD", "REPORT_FD", "REVISION",
        "ZYGOTE_FD",
    )
)  # fmt: skip
