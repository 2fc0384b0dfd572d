"""The `database` setting: which database it means, and what of it may be shown."""

import re
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from homeport.contract.errors import BadRequest

FILE = "homeport.db"  # in the home, unless `HOMEPORT_DATABASE` names another database
HIDDEN = "***"


def of(setting: str, home: Path) -> URL:
    """Return the setting's URL; for an empty setting, that of a file in the home. `BadRequest` never quotes it."""
    if not setting:
        return URL.create("sqlite", database=str(home / FILE))
    try:
        url = make_url(setting)
    except (ArgumentError, ValueError):  # its text may be half of a password
        raise _wrong() from None
    if url.drivername.partition("+")[0] == "sqlite":
        if not url.database or url.database == ":memory:":
            raise _wrong()
        return URL.create("sqlite", database=str(home / url.database))
    is_postgres = url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}
    # An @ there is one of a password that is not percent-encoded.
    if is_postgres and "@" not in f"{url.host}{url.database}":
        return url.set(drivername="postgresql+psycopg")
    raise _wrong()


def is_sqlite(url: URL) -> bool:
    """Return whether the URL is that of a file."""
    return url.drivername == "sqlite"


def shown(url: URL) -> str:
    """Return the database as text for users: without a password and without options."""
    if is_sqlite(url):
        return str(url.database)
    host = url.host or url.query.get("host") or "this machine"
    port = f":{url.port}" if url.port else ""
    return f"`{url.database or url.username or ''}` at {host}{port} (PostgreSQL)"


def without_password(text: str, url: URL) -> str:
    """A message of the driver without any secret of the URL."""
    secrets = [str(url.password)] if url.password else []
    secrets += [str(value) for key, value in url.query.items() if "pass" in key]
    for secret in filter(None, secrets):
        for spelling in {secret, quote(secret, safe=""), quote_plus(secret)}:
            text = text.replace(spelling, HIDDEN)
    return re.sub(r"(://[^\s:/@]*:)[^\s@]*@", rf"\1{HIDDEN}@", text)


def _wrong() -> BadRequest:
    return BadRequest(
        "the setting `database` is not the URL of a database that homeport knows",
        hint="`postgresql://user:password@host/name` with percent-encoded parts, or `sqlite:////path`",
    )
