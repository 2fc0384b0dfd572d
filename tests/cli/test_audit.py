"""`homeport audit` as a user types it."""

import json

from homeport.cli.audit import _row
from homeport.contract.api.audit import AuditEntry


async def test_changes_are_listed_and_chosen(typed):
    async with typed() as user:
        assert "nothing was changed" in (await user.run("audit")).stderr
        await user.run("environment", "create", "staging")
        await user.run("secret", "create", "db", "X=1", "-e", "staging")
        await user.refused("secret", "create", "db", "X=1", "-e", "staging")
        await user.run("secret", "create", "other", "X=1")
        table = (await user.run("audit")).stdout
        chosen = {
            words: [
                (each["action"], each["target"])
                for each in json.loads((await user.run("audit", "--json", *words)).stdout)
            ]
            for words in (
                ("-n", "1"),
                ("-e", "staging"),
                ("--user", "eve"),
                ("--app", "shop"),
                ("--since", "2h"),
                ("--since", "0s"),
            )
        }
        wrong = await user.refused("audit", "--since", "yesterday")

    assert ["At", "Who", "From", "Action", "Result", "Environment", "App", "Target"] == (
        table.splitlines()[0].split()
    )
    assert "the server's own user" in table
    assert "this machine" in table
    assert [("secret create", "other")] == chosen["-n", "1"]
    assert [("secret create", "db")] * 2 == chosen["-e", "staging"]
    assert [] == chosen["--user", "eve"] == chosen["--app", "shop"] == chosen["--since", "0s"]
    assert 4 == len(chosen["--since", "2h"])
    assert "--since is 'yesterday'" in wrong


def test_a_row_says_who_and_from_where():
    entry = AuditEntry(
        at=1.0, by="token", user="ada", token="ak-1", workspace="acme", environment="main",
        action="deploy", result="ok", app="shop", target="", source="",
    )  # fmt: skip
    stranger = AuditEntry(
        at=1.0, by="stranger", user="", token="", workspace="", environment="", action="login",
        result="refused", app="", target="", source="10.0.0.7",
    )  # fmt: skip

    assert ("ada ak-1", "this machine") == _row(entry)[1:3]
    assert "acme/main" == _row(entry)[5]
    assert ("a stranger", "10.0.0.7") == _row(stranger)[1:3]
    assert "" == _row(stranger)[5]
