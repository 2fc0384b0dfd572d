"""Wrong tokens in the audit log."""

from homeport.contract.api.audit import AuditQuery
from homeport.control.api.refused import MOST, WINDOW_S, Refused
from homeport.state.audit import Audit
from tests.clock import Clock
from tests.waiting import until


async def rows(audit, count):
    async def reached():
        found = await audit.last(AuditQuery(tail=1000), None)
        return found if len(found) == count else None

    return await until(reached, f"{count} rows")


async def test_a_row_has_the_address_and_the_id_but_no_secret(database):
    audit = Audit(database, days=1)
    refused = Refused(audit)
    refused.add("192.0.2.1", "ak-abc.as-very-secret", "Unauthorized")
    refused.add("192.0.2.1", "as-very-secret", "TooMany")
    found = await rows(audit, 2)
    await refused.close()

    assert [("ak-abc", "Unauthorized"), ("", "TooMany")] == [(e.target, e.result) for e in found]
    assert {("stranger", "192.0.2.1", "login refused", "")} == {
        (e.by, e.source, e.action, e.workspace) for e in found
    }
    assert "secret" not in str(found)


async def test_many_make_few_rows_and_their_number(database):
    audit, clock = Audit(database, days=1), Clock()
    refused = Refused(audit, clock)
    for number in range(MOST + 40):
        refused.add(f"192.0.2.{number}", "x", "Unauthorized")
    await rows(audit, MOST)
    clock.at += WINDOW_S
    refused.add("192.0.2.1", "x", "Unauthorized")
    found = await rows(audit, MOST + 2)
    await refused.close()

    assert ["40 more within a minute", ""] == sorted((e.target for e in found[-2:]), reverse=True)
