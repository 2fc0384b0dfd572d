"""What can be a schedule, as far as the contract knows."""

import pytest

from homeport.contract.errors import ScriptError
from homeport.contract.manifest import Batch, CallMethod, FunctionSpec, Manifest, WebKind, WebMethod
from homeport.contract.schedules import Schedule
from homeport.contract.validate import check


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        (Schedule(cron="* * * *"), "has 4 fields"),
        (Schedule(cron="0 * * * * *"), "has 6 fields"),
        (Schedule(cron="0 9 * * *", seconds=5), "both a Cron and a Period"),
        (Schedule(cron="0 9 * * *", timezone="x" * 201), "more than 200 characters"),
        (Schedule(), "shorter than 1 second"),
        (Schedule(seconds=0.5), "shorter than 1 second"),
        (Schedule(days=2, seconds=-5), "negative"),
        (Schedule(months=1201), "longer than a hundred years"),
    ],
)
def test_a_schedule_that_cannot_be_has_a_problem_in_words(schedule, why):
    assert why in schedule.problem()


def test_a_schedule_that_can_be_has_no_problem():
    for schedule in (Schedule(cron="0 9 * * 1-5"), Schedule(seconds=1), Schedule(months=1)):
        assert schedule.problem() is None


def spec(**changes) -> FunctionSpec:
    calls = (CallMethod(tag="f", attribute="f"),)
    given = {"calls": calls, "schedule": Schedule(seconds=5), "where": "app.py:3", **changes}
    return FunctionSpec(name="f", module="script", qualname="f", **given)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schedule": Schedule(seconds=0)}, "shorter than 1 second"),
        ({"is_class": True}, "cannot have a schedule"),
        (
            {
                "calls": (),
                "web": (WebMethod(tag="f", attribute="f", kind=WebKind.FASTAPI),),
            },
            "cannot have a schedule",
        ),
        ({"calls": (CallMethod(tag="f", attribute="f", generator=True),)}, "is a generator"),
        (
            {"calls": (CallMethod(tag="f", attribute="f", batch=Batch(size=2, wait_ms=1)),)},
            "batched",
        ),
    ],
)
def test_a_manifest_has_schedules_only_where_they_can_be_kept(changes, why):
    check(Manifest(app_name="shop", functions=(spec(),)))
    with pytest.raises(ScriptError, match=why) as told:
        check(Manifest(app_name="shop", functions=(spec(**changes),)))
    assert "app.py:3" == told.value.where
