"""The settings that a user can give, by their names in `config.toml`, and how each is read."""

from collections.abc import Callable
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.settings import values


@dataclass(frozen=True, slots=True)
class Setting:
    """Reads a setting's value, and knows its type in TOML."""

    convert: Callable[[Any], Any]
    kind: type = str
    secret: bool = False  # no message shows it

    def read(self, source: str, raw: Any) -> Any:
        """Return the value of a flag or a variable."""
        try:
            return self.convert(raw)
        except ValueError as error:
            shown = "wrong" if self.secret else repr(raw)
            raise BadRequest(f"{source} is {shown}: {error}") from None

    def read_typed(self, source: str, raw: Any) -> Any:
        """Return the value of a key in a TOML file; its type must be right."""
        if self.kind is float and type(raw) is int:
            raw = float(raw)
        if type(raw) is not self.kind:  # a bool is an int in Python
            shown = "wrong" if self.secret else repr(raw)
            raise BadRequest(f"{source} is {shown}: {_NEEDED[self.kind]}")
        return self.read(source, raw)


_NEEDED = {
    int: "a whole number is needed, without quotes",
    float: "a number is needed, without quotes",
    str: "text in quotes is needed",
}
#: Other programs' variables with the same meaning; homeport's own take precedence.
ALSO = {
    "environment": "MODAL_ENVIRONMENT",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "otlp_headers": "OTEL_EXPORTER_OTLP_HEADERS",
}


KEYS = {
    "host": Setting(values.host),
    "trusted_proxies": Setting(values.networks),
    "shared_volumes": Setting(values.absolute),
    "entrance": Setting(values.one_of("on", "off")),
    "standby_addresses": Setting(values.addresses),
    "node_networks": Setting(values.networks),
    "region": Setting(values.region),
    "http_port": Setting(values.port, int),
    "domain": Setting(values.domain),
    "workspace": Setting(values.label),
    "environment": Setting(values.environment),
    "dev_suffix": Setting(values.dev_suffix),
    "server": Setting(values.server, secret=True),  # it may hold a password
    "token": Setting(values.token, secret=True),
    "server_ca": Setting(values.path),
    "api_port": Setting(values.port, int),
    "rate_limit": Setting(values.whole, int),
    "cors_preflights": Setting(values.one_of("refuse", "pass")),
    "haproxy": Setting(values.path),
    "log_cap_mib": Setting(values.whole, int),
    "request_cap_mib": Setting(values.whole, int),
    "request_details": Setting(values.some_of("queries", "addresses")),
    "capture_removes": Setting(values.field_names),
    "tracing": Setting(values.one_of("off", "otlp")),
    "otlp_endpoint": Setting(values.receiver, secret=True),  # it may hold a key
    "otlp_headers": Setting(values.headers, secret=True),
    "trace_share": Setting(values.share, float),
    "audit_days": Setting(values.days, int),
    "cgroup": Setting(str),
    "isolation": Setting(values.one_of("auto", "on", "off")),
    "zygote_mib": Setting(values.whole, int),
    "max_parameter_pools": Setting(values.whole, int),
    "database": Setting(values.database, secret=True),  # it may hold a password
    "tls": Setting(values.one_of("off", "acme", "files", "local")),
    "https_port": Setting(values.port, int),
    "tls_files": Setting(values.path),
    "email": Setting(values.email),
    "acme_directory": Setting(values.directory_url),
    "acme_ca": Setting(values.path),
    "dns": Setting(values.one_of("rfc2136", "hook", "lexicon")),
    "dns_server": Setting(values.name_server),
    "dns_key": Setting(values.dns_key, secret=True),
    "dns_zone": Setting(values.domain),
    "dns_hook": Setting(values.path),
    "dns_provider": Setting(values.label),
    "dns_resolver": Setting(values.name_server),
    "public_addresses": Setting(values.addresses),
    "ray": Setting(values.ray),
    "ray_node_types": Setting(values.ray_node_types),
}
