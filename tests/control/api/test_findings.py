"""What is wrong with machines that have joined."""

import dataclasses

import pytest

from homeport.contract.api.nodes import JoinedNode
from homeport.control.api.findings import of_machines

NOW = 1_700_000_000.0
GOOD = JoinedNode(
    name="b",
    health="ready",
    drained=False,
    containers=0,
    joined_at=NOW,
    version="1.2",
    clock_off_s=-4.9,
    free_mib=2000,
    certificate_until=NOW + 6.5 * 86400,
    volumes="shared",
    round_trip_ms=1.0,
)


def test_nothing_is_wrong_with_a_good_machine_and_with_one_that_has_said_nothing_yet():
    silent = JoinedNode(name="c", health="ready", drained=False, containers=0, joined_at=NOW)

    assert [] == list(of_machines([GOOD, silent], "1.2", NOW))


@pytest.mark.parametrize(
    ("changes", "text", "needed"),
    [
        ({"health": "gone"}, "it does not answer, and its containers were replaced", True),
        ({"health": "gone", "drained": True}, "it does not answer, and", False),
        ({"health": "suspect"}, "does not answer at the moment", False),
        (
            {"unreached": "10.0.0.2:7601: nothing answers"},
            "at 10.0.0.2:7601: nothing answers",
            True,
        ),
        (
            {"cannot_call": "10.0.0.1:7602: nothing answers"},
            "its containers cannot call functions: 10.0.0.1:7602: nothing answers",
            True,
        ),
        (
            {"no_entrance": "port 80: Address already in use"},
            "visitors cannot come in at port 80: Address already in use",
            False,
        ),
        ({"version": "1.1"}, "it has homeport 1.1, and this server 1.2", False),
        ({"clock_off_s": 60.0}, "its clock is 60 s ahead", False),
        ({"clock_off_s": -700.0}, "its clock is 700 s behind", True),
        ({"certificate_until": NOW + 86400}, "its certificate ends in 1.0 days", True),
        ({"free_mib": 3}, "its disk has 3 MiB left", True),
        (
            {"volumes": "not marked"},
            "its containers cannot have volumes: its `shared_volumes`",
            False,
        ),
        (
            {"volumes": "not set"},
            "its containers cannot have volumes: `shared_volumes` is not set",
            False,
        ),
        ({"volumes": "other users"}, "containers there have other user ids", False),
    ],
)
def test_a_finding_about_a_machine_says_what_to_do(changes, text, needed):
    (finding,) = of_machines([dataclasses.replace(GOOD, **changes)], "1.2", NOW)

    assert finding.text.startswith("`b`: ")
    assert text in finding.text
    assert ("machine", needed) == (finding.what, finding.needed)
    assert finding.hint
