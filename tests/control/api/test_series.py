"""What happened over time, by the API."""

import pytest

from homeport.client.series import OverTime
from homeport.contract import codec, query
from homeport.contract.api.series import Series, SeriesQuery
from homeport.contract.scope import MAIN, Scope
from homeport.state.requests import Place
from tests.control.api.served import client as client_of
from tests.control.plane import Plane, function, manifest
from tests.recorded import words
from tests.waiting import virtually

PLACES = {
    "price": Place(MAIN, "shop", "price"),
    "cart": Place(MAIN, "shop", "cart"),
    "blog": Place(MAIN, "blog", "index"),
    "theirs": Place(Scope("acme", "main"), "shop", "price"),
}
LINES = tuple(
    words(id=endpoint, endpoint=endpoint, ended=f"{1_000_000 + 60_000 * number}")
    for number, endpoint in enumerate(PLACES)
)


class Connection:
    """A client's connection, to an app in this process."""

    def __init__(self, http) -> None:
        self._http = http

    async def ask(self, kind, method, path):
        response = await self._http.request(method, path)
        assert 200 == response.status_code, response.text
        return codec.loads(kind, response.text)


def story_of(tmp_path, tell):
    async def story():
        async with Plane(tmp_path) as plane, client_of(plane, tmp_path) as http:
            http.server.requests.add(LINES, PLACES.get, lambda _container: "")
            await tell(http, OverTime(Connection(http)), plane)

    virtually(story())


def test_a_series_says_when_it_begins_and_how_long_a_step_is(tmp_path):
    async def tell(_http, over_time, _plane):
        series = await over_time.series(SeriesQuery(since=1000.0, until=1200.0))

        assert (960.0, 60, 4) == (series.begin, series.step_s, series.steps)
        counts = {(each.app, each.tag): each.by_status for each in series.endpoints}
        assert {
            ("blog", "index"): {"2xx": (0, 0, 1, 0)},
            ("shop", "cart"): {"2xx": (0, 1, 0, 0)},
            ("shop", "price"): {"2xx": (1, 0, 0, 0)},
        } == counts

    story_of(tmp_path, tell)


@pytest.mark.parametrize(
    ("wanted", "tags"),
    [({"app": "shop"}, {"cart", "price"}), ({"app": "shop", "tag": "cart"}, {"cart"})],
)
def test_one_app_or_function_can_be_asked_for(tmp_path, wanted, tags):
    async def tell(_http, over_time, _plane):
        asked = SeriesQuery(since=1000.0, until=1200.0, **wanted)

        assert tags == {each.tag for each in (await over_time.series(asked)).endpoints}

    story_of(tmp_path, tell)


@pytest.mark.parametrize(
    "wanted", [{"since": 5.0, "until": 4.0}, {"since": 1.0, "until": 1e9}, {"since": -1.0}]
)
def test_a_time_that_is_none_is_refused(tmp_path, wanted):
    async def tell(http, _over_time, _plane):
        response = await http.get(f"/v1/series?{query.encode(SeriesQuery(**wanted))}")

        assert 400 == response.status_code

    story_of(tmp_path, tell)


def test_deployed_versions_are_marked(tmp_path):
    async def tell(_http, over_time, plane):
        await plane.deploy(manifest(function("price")))
        plane.said.clear()
        series: Series = await over_time.series(SeriesQuery())
        (marked,) = series.deploys

        assert ("shop", 1, "") == (marked.app, marked.version, marked.tag)
        assert series.begin <= marked.at < series.begin + series.steps * series.step_s
        assert () == (await over_time.series(SeriesQuery(app="blog"))).deploys

    story_of(tmp_path, tell)
