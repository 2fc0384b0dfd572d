"""`python -m homeport.state`: backs the state up, restores it, or checks it, without the server.

It reads one object of JSON from standard input, `{"do", "settings", "file", "force", "passphrase", "volumes"}`, and
writes one to standard output: the result, or `{"error": {…}}`. Arguments would be shown by `ps`, and a URL may
have a password.

`--rehearse` and `--go-back` are for `homeport service upgrade` (state/upgrades.py). `{"do": "audit", "action", "result",
"target"}` is for all commands `homeport service …`, which run as root: the settings are those of the service's user.
"""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homeport import settings as all_settings
from homeport.contract.api.audit import AuditEntry
from homeport.contract.errors import Failure, StorageError
from homeport.settings import Settings
from homeport.state import archive, audit, backup, schema, upgrades, urls
from homeport.state.database import Database


def main() -> int:
    """Do what the input says; return 0 if that worked."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that what is half done is undone
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        answer = _answer(sys.argv[1:])
    except Failure as failure:
        answer = {"error": failure.to_dict()}
    except OSError as error:
        storage_error = StorageError(f"{error.filename or 'the home'}: {error.strerror}")
        answer = {"error": storage_error.to_dict()}
    json.dump(answer, sys.stdout)
    return int("error" in answer)


def _answer(words: Sequence[str]) -> dict[str, Any]:
    if words:  # of `homeport service upgrade`, which may be another version: the settings are ours
        own = all_settings.of_server(os.environ)
        return (upgrades.rehearse if words == ["--rehearse"] else upgrades.go_back)(own)
    order = json.loads(sys.stdin.read())
    return _do(order, Settings(**{**order["settings"], "home": Path(order["settings"]["home"])}))


def _do(order: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if order["do"] == "audit":
        return _audit(order)
    what, file = order["do"], Path(order.get("file") or "")
    passphrase, force = str(order.get("passphrase") or ""), bool(order.get("force"))
    if what == "backup":
        volumes = order.get("volumes", ())
        summary = backup.make(settings, file, force=force, passphrase=passphrase, volumes=volumes)
        return dataclasses.asdict(summary)
    if what == "lock":
        return {"has_passphrase": archive.has_passphrase(file)}
    if what == "check":
        return dataclasses.asdict(backup.check(file, settings.home, passphrase=passphrase))
    if what == "restore":
        restored = backup.restore(settings, file, force=force, passphrase=passphrase)
        return dataclasses.asdict(restored)
    return _look(settings)


def _audit(order: dict[str, Any]) -> dict[str, Any]:
    own = all_settings.of_server(os.environ)
    database = Database(urls.of(own.database, own.home))
    action, result, target = (str(order[name]) for name in ("action", "result", "target"))
    entry = AuditEntry(by="socket", action=action, result=result, target=target)
    try:
        if database.file is None or database.file.exists():
            audit.write(database, entry)
    finally:
        database.dispose()
    return {}


def _look(settings: Settings) -> dict[str, str]:
    """Return which database the home uses, and check that it answers."""
    url = urls.of(settings.database, settings.home)
    if urls.is_sqlite(url) and not Path(url.database or "").exists():
        return {"told": f"{urls.shown(url)}, once a server has run"}
    database = Database(url)
    try:
        with database.reading() as connection:
            number = schema.number(database, connection)
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
    finally:
        database.dispose()
    kind = "PostgreSQL" if database.postgres else "SQLite"
    return {"told": f"{kind} {version}, {urls.shown(url)}, schema {number or 'none yet'}"}


if __name__ == "__main__":
    sys.exit(main())
