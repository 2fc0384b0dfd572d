"""`homeport certificate …` as a user types it."""

import json
import time

from homeport.cli import output
from homeport.contract.api.certificates import Certificate, CertificateList


async def test_a_host_without_a_certificate_is_listed_and_ordered(typed):
    async with typed() as user:
        (told,) = json.loads((await user.run("certificate", "list", "--json")).stdout)
        listed = (await user.run("certificate", "list")).stdout
        said = await user.run("certificate", "renew", "a.test")
        renewed = json.loads((await user.run("certificate", "renew", "a.test", "--json")).stdout)
        unknown = await user.refused("certificate", "renew", "b.test")

    assert "a.test" == told["host"] == renewed["host"]
    assert ["Host", "Source", "State"] == listed.split()[:3]
    assert ["a.test", "acme", told["state"]] == listed.splitlines()[1].split()[:3]
    assert "✓ The certificate of a.test is being ordered" in said.stderr
    assert "b.test" in unknown


async def test_why_a_certificate_is_missing_is_said_and_a_hint_only_once(answered):
    later = time.time() + 600
    waits = Certificate(
        host="a.test", source="acme:x", state="failed", error="no route", hint="open port 80",
        next_try=later,
    )  # fmt: skip
    same = Certificate(
        host="b.test", source="acme:x", state="failed", error="no route", hint="open port 80"
    )
    valid = Certificate(
        host="c.test", source="files", state="valid", valid_until=later + 60, renew_at=later
    )
    answers = {
        "GET /v1/certificates": CertificateList(certificates=(waits, same, valid)),
        "POST /v1/certificates/a.test/renew": waits,
    }
    async with answered(answers) as user:
        listed = await user.run("certificate", "list")
        renewed = await user.run("certificate", "renew", "a.test")

    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    when = output.local_time(later).split()
    assert ["a.test", "acme", "failed", *when, "no", "route"] == rows[0]
    assert ["b.test", "acme", "failed", "no", "route"] == rows[1]
    assert ["c.test", "files", "valid", *output.local_time(later + 60).split(), *when] == rows[2]
    assert "hint: open port 80\n" == listed.stderr
    assert f"! The order for a.test waits until {' '.join(when)}: no route\n" == renewed.stderr
