"""Messages: each is read as it was written, and any other bytes are refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import codec
from homeport.contract.container import Container, LogLine, StartOrder, State
from homeport.contract.listing import Change, Mark
from homeport.link import messages
from homeport.link.frames import Broken
from tests.orders import order

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
CONTAINER = Container(order=order("ta-1"), state=State.READY, node="a", address="abstract:x")
LINE = LogLine(at=1.5, app="app", function="f", container="ta-1", text="hello")
ALL = [
    messages.Greeting(version=1, ca="pem"),
    messages.Join(version=1, name="a", token="t", csr="pem"),
    messages.Joined(certificate="pem"),
    messages.Hello(version=1, run="r", host="h", homeport="1"),
    messages.Welcome(name="a", http=80, https=443, visitors="::"),
    messages.Refused(reason="no", final=True),
    messages.Call(number=1, name="mark", given={"x": [1]}),
    messages.Cancel(number=1),
    messages.Progress(number=1, text="half"),
    messages.Answer(number=1, value={"a": 1}),
    messages.Failed(number=1, failure={"kind": "Failure"}),
    messages.Changed(change=Change(mark=Mark(run="r", number=1), container=CONTAINER)),
    messages.Logs(number=1, lines=(LINE,), dropped=2),
    messages.Kept(number=1),
    messages.Beat(),
]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message, trusted):
    assert message == messages.read(messages.write(message), trusted=trusted)


def test_each_type_of_message_is_in_the_list_above():
    assert set(messages.Message) == {type(each) for each in ALL}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(body):
    with pytest.raises(Broken):
        messages.read(body, trusted=False)


@given(st.sampled_from([type(each).__name__.lower() for each in ALL]), st.data())
def test_fields_of_any_type_are_a_message_or_refused(kind, data):
    names = next(type(m) for m in ALL if type(m).__name__.lower() == kind).__dataclass_fields__
    told = {"is": kind, **{name: data.draw(JSON) for name in names}}
    try:
        message = messages.read(json.dumps(told).encode(), trusted=False)
    except Broken:
        return
    messages.write(message).decode("ascii")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="nested too deeply to be parsed"),
        pytest.param(b'{"is":"answer","number":1,"value":' + b"[" * 50 + b"]" * 50 + b"}", id="nested"),
        pytest.param(b'{"is":"hello","version":1,"run":NaN}', id="not a number"),
        pytest.param(b'{"is":"answer","number":1,"value":1e999}', id="infinite"),
        pytest.param(b'{"is":"kept","number":' + b"9" * 30 + b"}", id="a number without an end"),
        pytest.param(b'{"is":"kept","number":true}', id="a truth for a number"),
        pytest.param('{"is":"beat"}'.encode("utf-16"), id="another encoding"),
        pytest.param(b'{"is":"beat"}{"is":"beat"}', id="two"),
        pytest.param(b'{"is":["beat"]}', id="a type that is no text"),
        pytest.param(b'{"is":"farewell"}', id="a type that nobody knows"),
        pytest.param(b'{"is":"answer","number":1,"value":[' + b"0," * 1_000_000 + b"0]}", id="a million values"),
    ],
)  # fmt: skip
def test_a_message_that_could_harm_is_refused(body):
    with pytest.raises(Broken):
        messages.read(body, trusted=False)


def test_bytes_that_are_no_text_are_replaced_if_they_come_from_a_stranger():
    said = messages.Logs(
        number=1,
        lines=(LogLine(at=0.0, app="a", function="f", container="c", text="a\0b\ud800c"),),
    )
    body = messages.write(said)

    assert "a?b?c" == messages.read(body, trusted=False).lines[0].text
    assert said == messages.read(body)


def test_an_unknown_field_is_ignored_so_that_a_later_version_can_say_more():
    body = b'{"is":"hello","version":2,"run":"r","colour":"blue"}'

    assert 2 == messages.read(body, trusted=False).version


def test_a_value_of_a_call_is_checked_against_its_type():
    told = codec.encode(order("ta-1"))

    assert order("ta-1") == messages.checked(StartOrder, told, "order")
    for wrong in ({**told, "id": 5}, {**told, "function": None}, [], "x", None):
        with pytest.raises(Broken, match="`order"):
            messages.checked(StartOrder, wrong, "order")
