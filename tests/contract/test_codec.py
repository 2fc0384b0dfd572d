"""A value that is encoded and decoded is the same as before."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.contract import codec
from homeport.contract.container import Container, Event, Launch, LogLine, StartOrder
from homeport.contract.errors import Failure, PortTaken, StartError
from homeport.contract.image import Image, Step
from homeport.contract.manifest import CallMethod, FunctionSpec, Manifest, WebMethod
from homeport.contract.traffic import Endpoint, Load, PoolKey

SHAPES = [Container, StartOrder, Launch, Event, LogLine, Manifest, FunctionSpec, WebMethod]
SHAPES += [CallMethod, Image]
# JSON knows no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
st.register_type_strategy(str, TEXT)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3)
STEPS = st.builds(Step, name=TEXT, args=JSON, where=TEXT)
st.register_type_strategy(Step, STEPS)


@pytest.mark.parametrize("shape", [*SHAPES, Endpoint, Load], ids=lambda shape: shape.__name__)
@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(data=st.data())
def test_every_shape_survives_the_wire(shape, data):
    value = data.draw(st.from_type(shape))

    assert value == codec.loads(shape, codec.dumps(value))


@given(st.builds(PoolKey, TEXT, TEXT, TEXT))
def test_a_pools_text_is_one_line_without_blanks_and_reads_back(key):
    text = str(key)

    assert key == PoolKey.parse(text)
    assert text.split() in ([text], [])


def test_an_unknown_key_is_ignored_and_a_missing_one_has_its_default():
    assert Event(kind="ready") == codec.loads(Event, '{"kind": "ready", "from_the_future": 1}')


def test_a_failure_travels_with_its_kind():
    failure = PortTaken("port 1 is in use", where="x.py:1", hint="choose another")
    told = Failure.from_dict(failure.to_dict())

    assert (PortTaken, failure.to_dict()) == (type(told), told.to_dict())
    assert Failure is type(Failure.from_dict({"kind": "FromTheFuture", "message": "x"}))
    assert "The container did not become ready" == StartError().message


def test_equal_images_have_one_key_wherever_they_were_written():
    one = Image(steps=(Step(name="env", args={"vars": {"A": "1"}}, where="a.py:1"),))
    other = Image(steps=(Step(name="env", args={"vars": {"A": "1"}}, where="b.py:9"),))

    assert one.key == other.key
    assert one.key != Image().key
    assert {"A": "1"} == one.environ
