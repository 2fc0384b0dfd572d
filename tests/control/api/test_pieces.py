"""JSON in pieces is the JSON in one piece, and no piece is long."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import codec
from homeport.contract.api.answers import Nothing
from homeport.contract.api.apps import AppList, AppState, AppStatus
from homeport.contract.api.containers import ContainerList, ContainerStatus
from homeport.contract.container import State
from homeport.control.api import answers, pieces

containers = st.builds(
    ContainerStatus,
    id=st.text(max_size=5),
    app=st.just('ä"\\'),
    function=st.just("f"),
    revision=st.just("r"),
    state=st.sampled_from(State),
    pid=st.none() | st.integers(),
    started_at=st.floats(allow_nan=False, allow_infinity=False),
    reason=st.just(""),
    node=st.just("here"),
    gpus=st.just(()) | st.just(("GPU-1", "GPU-2")),
)
apps = st.builds(
    AppStatus,
    name=st.text(max_size=5),
    app_id=st.just("ap-1"),
    state=st.just(AppState.DEPLOYED),
    reason=st.just(""),
    version=st.just(1),
    created_at=st.just(1.0),
    stopped_at=st.none(),
    endpoints=st.just(()),
    containers=st.lists(containers, max_size=3).map(tuple),
)


@given(st.lists(apps, max_size=3).map(tuple))
def test_the_pieces_are_the_whole(listed):
    for value in (AppList(apps=listed), listed, [*listed], Nothing(), {"a": 1}, "ä", None, 1.5):
        assert pieces.JSON.encode(codec.encode(value)) == "".join(pieces.of(value))


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 5_000])
async def test_a_long_answer_is_sent_in_chunks_and_a_short_one_at_once(count):
    one = ContainerStatus(
        id="ta-1", app="a", function="f", revision="r", state=State.READY, pid=1, started_at=1.0, reason="", node="here"
    )  # fmt: skip
    every = ContainerList(
        containers=tuple(dataclasses.replace(one, id=f"ta-{number}") for number in range(count))
    )
    assert max(map(len, pieces.of(every))) < 20_000
    response = await answers.long_json_of(every)
    sent: list[bytes] = []

    async def send(message) -> None:
        sent.append(message.get("body", b""))

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    await response(scope, None, send)

    assert codec.encode(every) == json.loads(b"".join(sent))
    assert (len(sent) > 3) == (count == 5_000)
    assert "application/json" == response.headers["content-type"]
