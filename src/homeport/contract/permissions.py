"""The permissions of a caller of the API."""

import enum
from collections.abc import Iterable


class Permission(str, enum.Enum):
    """A permission; a token's scopes are permissions."""

    READ = "read"  # lists, states, logs, numbers
    #: Change and call what runs: apps, volumes, dicts, queues, programs in containers.
    DEPLOY = "deploy"
    SECRETS = "secrets"  # secrets and proxy tokens
    ADMIN = "admin"  # the server itself, its tokens, everything


def granted(scopes: Iterable[Permission]) -> frozenset[Permission]:
    """Return what the scopes allow: `admin` includes all, and each of the others includes `read`.

    >>> sorted(granted([Permission.DEPLOY]))
    [<Permission.DEPLOY: 'deploy'>, <Permission.READ: 'read'>]
    """
    given_scopes = frozenset(scopes)
    if Permission.ADMIN in given_scopes:
        return frozenset(Permission)
    return given_scopes | {Permission.READ} if given_scopes else given_scopes
