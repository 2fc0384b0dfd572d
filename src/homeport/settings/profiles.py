"""Profiles: the servers that `homeport login` knows, each with its token. They are in the home, in a file of mode 0600.

    {"current": "apps.example.com", "profiles": {"apps.example.com": {"server": …, "token": …, "server_ca": …, "user": …}}}

A profile, and the home's own server, may have an `environment` for commands that name none.

A profile's token goes to the profile's server and to no other one: so HOMEPORT_SERVER takes the place of a whole profile.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path

from homeport import private
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, NotFound, StorageError

FILE = "profiles.json"
LOCAL = "local"  # stands for the server of the home, which needs no profile
VARIABLE = "HOMEPORT_PROFILE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A server, and the token for it."""

    server: str
    token: str = field(repr=False)
    server_ca: str = ""  # path of a CA's certificate; empty: the usual ones
    user: str = ""  # whose token it is, for lists
    environment: str = ""  # of commands that name none; empty: as for a server of the home


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Every profile of a home, by its name."""

    current: str = ""  # empty: the server of the home
    by_name: Mapping[str, Profile] = field(default_factory=dict)
    environment: str = ""  # as a profile's, for the server of the home

    def get(self, name: str) -> Profile:
        """Return a profile; `NotFound` for an unknown one."""
        if name not in self.by_name:
            names = ", ".join(f"`{profile}`" for profile in self.by_name) or "none"
            raise NotFound(
                f"there is no profile `{name[:80]}`",
                hint=f"there is {names}; `homeport login URL` makes one",
            )
        return self.by_name[name]

    def chosen(self, environ: Mapping[str, str]) -> Profile | None:
        """Return the profile in force; None: the server of the home, or HOMEPORT_SERVER."""
        if environ.get("HOMEPORT_SERVER"):
            return None
        name = environ.get(VARIABLE) or self.current
        return None if name in ("", LOCAL) else self.get(name)

    def environment_of(self, environ: Mapping[str, str]) -> str:
        """Return the environment that `config set-environment` has chosen for the server in force; empty: none."""
        if environ.get("HOMEPORT_SERVER"):
            return ""
        profile = self.chosen(environ)
        return self.environment if profile is None else profile.environment

    def with_environment(self, environ: Mapping[str, str], environment: str) -> "Profiles":
        """Return the profiles with another environment for the server in force."""
        name = environ.get(VARIABLE) or self.current
        if name in ("", LOCAL):
            return replace(self, environment=environment)
        changed = replace(self.get(name), environment=environment)
        return replace(self, by_name={**self.by_name, name: changed})


def check_name(name: str) -> None:
    """Raise `BadRequest` for what cannot be a profile's name."""
    if not _NAME.match(name) or name == LOCAL:
        raise BadRequest(
            f"a profile cannot be named {name[:80]!r}",
            hint=f"letters, digits, `.`, `_` and `-`; `{LOCAL}` is this machine's own server",
        )


def read(home: Path) -> Profiles:
    """Return the profiles of a home."""
    path = home / FILE
    try:
        data = json.loads(path.read_bytes())
        return Profiles(
            current=str(data["current"]),
            by_name={
                str(name): Profile(**{k: str(v) for k, v in fields.items()})
                for name, fields in data["profiles"].items()
            },
            environment=str(data.get("environment", "")),
        )
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadRequest(
            f"{path} is damaged", hint="remove it, and log in again with `homeport login`"
        ) from None


def write(home: Path, profiles: Profiles) -> None:
    """Save the profiles of a home, whole or not at all."""
    data = {
        "current": profiles.current,
        "profiles": {name: _as_json(profile) for name, profile in profiles.by_name.items()},
        **({"environment": profiles.environment} if profiles.environment else {}),
    }
    save(home / FILE, json.dumps(data, indent=2).encode())


def _as_json(profile: Profile) -> dict[str, str]:
    """Return a profile's fields; earlier versions of homeport know no `environment`."""
    data = asdict(profile)
    return data if profile.environment else {k: v for k, v in data.items() if k != "environment"}


def save(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    try:
        private.write(path, content)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from None
