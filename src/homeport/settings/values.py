"""Read one value of a setting: each function returns it, or raises `ValueError` with the value that is needed."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homeport.contract import labels, names
from homeport.contract.errors import BadRequest


def port(raw: Any) -> int:
    number = whole(raw)
    if not 0 <= number <= 65535:
        raise ValueError("a port is between 0 and 65535")
    return number


def whole(raw: Any) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(raw).strip()):
        raise ValueError("a whole number is needed")
    if (number := int(raw)) < 0:
        raise ValueError("it cannot be negative")
    return number


def share(raw: Any) -> float:
    try:
        number = float(raw)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("a number from 0 to 1 is needed")
    return number


def receiver(raw: str) -> str:
    """Return the URL of a receiver of OTLP, without the path of one kind of data."""
    text = raw.strip().rstrip("/").removesuffix("/v1/traces")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[!-~]*)?", text):
        raise ValueError(
            "a URL such as http://localhost:4318 is needed; what is secret is in `otlp_headers`"
        )
    return text


def headers(raw: str) -> str:
    """Return fields for HTTP as OpenTelemetry writes them: `name=value,…`, percent-encoded."""
    parts = [part.strip() for part in raw.split(",") if part.strip()]
    if not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*=[ -+\--~]*", part) for part in parts):
        raise ValueError("`name=value` is needed, several of them with commas between")
    return ",".join(parts)


def field_names(raw: str) -> str:
    """Return names of fields of HTTP, in lower case."""
    names = [part.strip().lower() for part in raw.split(",") if part.strip()]
    if not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) for name in names):
        raise ValueError("names such as `x-customer,x-account` are needed")
    return ",".join(names)


def days(raw: Any) -> int:
    number = whole(raw)
    if not 1 <= number <= 36_500:
        raise ValueError("a number of days is needed, from 1 to 36500")
    return number


def host(raw: str) -> str:
    """Return an address in its usual spelling, because it is compared with the addresses of sockets."""
    text = raw.strip().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise ValueError("an address is needed, such as 127.0.0.1, 0.0.0.0 or ::1") from None


def networks(raw: str) -> str:
    """Return networks, or single addresses, in their usual spelling."""
    listed = []
    for text in filter(None, (part.strip() for part in raw.split(","))):
        try:
            listed.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise ValueError(f"`{text}` is not a network such as 10.0.0.0/8 ({error})") from None
    return ",".join(listed)


def addresses(raw: str) -> str:
    """Return IP addresses in their usual spelling."""
    parts = filter(None, (part.strip() for part in raw.split(",")))
    try:
        return ",".join(str(ipaddress.ip_address(part)) for part in parts)
    except ValueError:
        raise ValueError("addresses such as `203.0.113.5,2001:db8::1` are needed") from None


def region(raw: str) -> str:
    text = raw.strip()
    try:
        labels.check({labels.REGION: text})
    except BadRequest:
        raise ValueError("letters, digits, `.`, `_` and `-` are needed, such as `eu`") from None
    return text


def label(raw: str) -> str:
    text = names.slug(raw).strip("-")
    if not text:
        raise ValueError("letters, digits and dashes are needed")
    return text


def domain(raw: str) -> str:
    text = raw.lower().strip(".")
    if not text or not all(names.is_label(part) for part in text.split(".")):
        raise ValueError("a domain such as `localhost` or `apps.example.com` is needed")
    return text


def dev_suffix(raw: str) -> str:
    if not names.is_dev_suffix(raw):
        raise ValueError("1 to 8 letters or digits are needed")
    return raw.lower()


def environment(raw: str) -> str:
    """Read the name of an environment."""
    if not names.is_environment_name(raw):
        raise ValueError("a name of letters, digits, `-` and `_` is needed")
    return raw


def server(raw: str) -> str:
    text = raw.strip().rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[!-~]*)?", text) or not _has_place(text):
        raise ValueError("a URL such as http://10.0.0.2:4670 is needed")
    return text


def _has_place(url: str) -> bool:
    """Return whether a URL's host and port are ones, such as no `[x]` and no 99999."""
    from urllib.parse import urlsplit  # few commands have a URL

    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def ray(raw: str) -> str:
    text = raw.strip()
    host, _, number = text.rpartition(":")
    if text != "auto" and not (
        re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", host) and number.isdecimal()
    ):
        raise ValueError("the address of a Ray cluster is needed, such as 10.0.0.1:6379, or `auto`")
    return text


def ray_node_types(raw: str) -> str:
    from homeport.contract import node_types  # no command needs it

    node_types.read(raw)
    return raw.strip()


def database(raw: str) -> str:
    text = raw.strip()
    if not re.fullmatch(r"(postgres|postgresql|postgresql\+psycopg|sqlite)://[!-~]+", text):
        raise ValueError("a URL such as postgresql://user:password@host/homeport is needed")
    if text.startswith("postgres") and text.count("@") > 1:
        raise ValueError("percent-encode each part of postgresql://user:password@host/homeport")
    return text


def path(raw: str) -> str:
    try:
        return str(Path(raw).expanduser())
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def absolute(raw: str) -> str:
    text = path(raw)
    if not Path(text).is_absolute():
        raise ValueError("an absolute path is needed")
    return text


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return the reader of a setting with these values."""

    def read(raw: str) -> str:
        if raw not in allowed:
            raise ValueError(
                f"{', '.join(f'`{word}`' for word in allowed[:-1])} or `{allowed[-1]}` is needed"
            )
        return raw

    return read


def some_of(*allowed: str) -> Callable[[str], str]:
    """Return the reader of a setting with some of these words, or none."""

    def read(raw: str) -> str:
        words = [part.strip() for part in raw.split(",") if part.strip()]
        if not set(words) <= set(allowed):
            raise ValueError(
                f"{' or '.join(f'`{word}`' for word in allowed)} is needed, or both with a comma"
            )
        return ",".join(dict.fromkeys(words))

    return read


def token(raw: str) -> str:
    if not re.fullmatch(r"[!-~]+", raw.strip()):
        raise ValueError("printable characters without blanks are needed")
    return raw.strip()


def email(raw: str) -> str:
    text = raw.strip()
    if not re.fullmatch(r"[^\s@,<>]+@[^\s@,<>]+", text):
        raise ValueError("an address such as ada@example.com is needed")
    return text


def directory_url(raw: str) -> str:
    """Return the URL of an ACME server's directory. What goes there is secret, so plain HTTP is not enough."""
    text = raw.strip()
    if not re.fullmatch(r"https://[^\s/?#@]+(/[!-~]*)?", text):
        raise ValueError("a URL such as https://acme.example.com/directory is needed")
    return text


def name_server(raw: str) -> str:
    """Return a DNS server: an address or a name, with or without a port."""
    text = raw.strip()
    if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", text):
        raise ValueError("a name server such as `ns.example.com` or `10.0.0.1:53` is needed")
    return text


def dns_key(raw: str) -> str:
    """Return a TSIG key (RFC 8945): `[ALGORITHM:]NAME:SECRET`, as `dig -y` takes it."""
    import base64  # 1 ms that most commands need not pay
    import binascii

    parts = raw.strip().split(":")
    algorithm, name, secret = parts if len(parts) == 3 else ("hmac-sha256", *parts, "", "")[:3]
    algorithms = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
    try:
        base64.b64decode(secret, validate=True)
    except binascii.Error:
        secret = ""
    if not (name and secret and algorithm in algorithms and len(parts) in (2, 3)):
        raise ValueError("a key `hmac-sha256:NAME:SECRET` is needed, with the secret in Base64")
    return f"{algorithm}:{name}:{secret}"
