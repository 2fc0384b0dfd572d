"""The launch that a node sends to a runner has everything that the runner reads, and little more."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import codec
from homeport.contract.container import UNREAD, UNREAD_OF_WEB, Launch, sent, without_secrets
from homeport.contract.image import Image, Step
from homeport.contract.manifest import FunctionSpec, SecretRef, WebKind, WebMethod
from tests.contract.test_codec import TEXT
from tests.orders import launch, order

FULL = launch(
    web=(WebMethod(tag="f", attribute="f", kind=WebKind.ASGI, label="x", where="a.py:1"),),
    image=Image(
        steps=(
            Step(name="pip_install", args={"packages": ["x"] * 1000}, where="a.py:2"),
            Step(name="workdir", args={"path": "/srv"}, where="a.py:3"),
        )
    ),
    memory_mib=(64, 200),
    min_containers=3,
    max_inputs=7,
    where="a.py:4",
    parameters={"size": 2, "raw": b"\xff"},
    tmp_dir="/tmp/x",
    cores=(0, 1),
)


def test_a_runner_reads_what_it_needs_and_is_not_sent_the_rest():
    read = codec.loads(Launch, codec.dumps(sent(FULL)))
    function, (web,) = read.function, read.function.web

    assert FULL.order.parameters == read.order.parameters
    assert (FULL.tmp_dir, FULL.cores, 7) == (read.tmp_dir, read.cores, function.max_inputs)
    assert ("f", WebKind.ASGI, None, "") == (web.tag, web.kind, web.label, web.where)
    assert "/srv" == function.image.workdir
    assert [("pip_install", "a.py:2"), ("workdir", "a.py:3")] == [
        (step.name, step.where) for step in function.image.steps
    ]
    assert (0, None, "") == (function.min_containers, function.memory_mib, function.where)
    assert len(codec.dumps(sent(FULL))) < 600


@given(
    st.builds(Launch, order=st.builds(order, function=TEXT, source=TEXT, timeout_s=st.floats(1)))
)
def test_every_field_that_is_not_left_out_arrives(told):
    read = codec.loads(Launch, codec.dumps(sent(told)))

    assert told == read


def test_each_name_that_is_left_out_is_a_field_of_a_function_or_of_its_web_methods():
    functions, webs = (
        {field.name: field for field in dataclasses.fields(shape)}
        for shape in (FunctionSpec, WebMethod)
    )

    assert set(UNREAD) <= functions.keys()
    assert set(UNREAD_OF_WEB) <= webs.keys()


def test_a_node_never_sees_a_secret():
    refs = (SecretRef(values={"KEY": "hidden"}),)
    function = FunctionSpec(name="f", module="m", qualname="f", secrets=refs, build_secrets=refs)

    assert "hidden" not in codec.dumps(without_secrets(function))
