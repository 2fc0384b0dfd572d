"""Which manifests are valid: each rule, and random changes of a valid manifest."""

import copy
import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.contract import codec, methods, shape, validate
from homeport.contract.errors import BadRequest, Failure
from homeport.contract.image import Image, Step
from homeport.contract.manifest import (
    FunctionSpec,
    Manifest,
    Parameter,
    SecretRef,
    SourceFile,
    WebKind,
    WebMethod,
)

SHA256 = "a" * 64
PAGE = WebMethod(
    tag="page",
    attribute="page",
    kind=WebKind.FASTAPI,
    label="page",
    custom_domains=("*.shop.example", "xn--bcher-kva.example"),
    where="shop.py:3",
)
CLASS = FunctionSpec(
    name="Model.*",
    module="shop.models",
    qualname="Models.Model",
    is_class=True,
    web=(
        WebMethod(tag="Model.ask", attribute="ask", kind=WebKind.FASTAPI),
        WebMethod(tag="Model.tell", attribute="tell", kind=WebKind.ASGI),
    ),
    parameters=(
        Parameter(name="size", type="int", required=True),
        Parameter(name="key", type="bytes", required=False, default=b"\xff"),
    ),
    memory_mib=(100, None),
)
PROGRAM = FunctionSpec(
    name="program",
    module="my-script",
    qualname="program",
    web=(WebMethod(tag="program", attribute="program", kind=WebKind.WEB_SERVER, port=8000),),
)
FUNCTION = FunctionSpec(
    name="page",
    module="shop",
    qualname="page",
    web=(PAGE,),
    image=Image(
        steps=(
            Step(name="debian_slim", args={"python_version": "3.12"}),
            Step(name="pip_install", args={"packages": ["flask"], "pre": True}, where="shop.py:2"),
            Step(name="env", args={"vars": {"A": "1"}}),
            Step(
                name="add_local_file",
                args={"local_path": "/a", "remote_path": "/root/a", "copy": True, "files": {"a": SHA256}},
            ),
            Step(name="workdir", args={"path": "/root"}),
            Step(name="run_function", args={"module": "m", "qualname": "f", "args": [1], "timeout": 5}),
        )
    ),
    secrets=(SecretRef(name="db"), SecretRef(values={"KEY": "value"})),
    max_containers=5,
    cpu=(0.5, 2.0),
    memory_mib=(100, 200),
    ephemeral_disk_mib=100,
    gpu=("H100:2", "A100-80GB", "any", "L4!"),
)  # fmt: skip
GOOD = Manifest(
    app_name="shop",
    functions=(FUNCTION, CLASS, PROGRAM),
    files=(
        SourceFile(path="shop.py", sha256=SHA256, size_bytes=1),
        SourceFile(path="assets/a\u202fb c.txt", sha256=SHA256, size_bytes=0),
        SourceFile(path="/etc/motd", sha256=SHA256, size_bytes=0),
    ),
    tags={"team": "web"},
    script="shop.py",
    python_version="3.12.1",
)


def as_json(manifest: Manifest = GOOD) -> Any:
    return json.loads(codec.dumps(manifest))


def changed(**changes) -> Manifest:
    """Return a manifest with one function that has these fields."""
    function = dataclasses.replace(FUNCTION, **changes)
    return dataclasses.replace(GOOD, functions=(function,))


def of_web(**changes) -> Manifest:
    return changed(web=(dataclasses.replace(PAGE, **changes),))


def of_files(*paths: str, **changes) -> Manifest:
    fields = {"sha256": SHA256, "size_bytes": 1, **changes}
    return dataclasses.replace(GOOD, files=tuple(SourceFile(path=p, **fields) for p in paths))


def of_step(name: str, **args) -> Manifest:
    return changed(image=Image(steps=(Step(name=name, args=args),)))


def test_a_good_one_is_read_as_it_was_written():
    assert GOOD == validate.read(as_json())


BAD = {
    "an app's name": dataclasses.replace(GOOD, app_name="a/b"),
    "a tag": dataclasses.replace(GOOD, tags={"a b": "c"}),
    "two functions of a name": dataclasses.replace(GOOD, functions=(FUNCTION, FUNCTION)),
    "too many functions": dataclasses.replace(GOOD, functions=(FUNCTION,) * 501),
    "a function's name": changed(name="a/b"),
    "a function's empty name": changed(name=""),
    "a module that is a path": changed(module="../../etc"),
    "an absolute module": changed(module="/etc/passwd"),
    "a module without a name": changed(module="a..b"),
    "a qualname": changed(qualname="f()"),
    "a qualname with an empty part": changed(qualname="Models..Model"),
    "no web method": changed(web=()),
    "two web methods of a function": changed(web=(PAGE, dataclasses.replace(PAGE, attribute="q"))),
    "negative containers": changed(min_containers=-1),
    "no containers at most": changed(max_containers=0),
    "more at least than at most": changed(min_containers=6),
    "a billion containers": changed(min_containers=10**9, max_containers=None),
    "no inputs": changed(max_inputs=0),
    "a target above the maximum": changed(max_inputs=2, target_inputs=3),
    "a short window": changed(scaledown_window_s=0.0),
    "a window without end": changed(scaledown_window_s=math.inf),
    "a timeout of nan": changed(timeout_s=math.nan),
    "a timeout of 0": changed(timeout_s=0.0),
    "a negative timeout": changed(startup_timeout_s=-1.0),
    "a cpu of nan": changed(cpu=(math.nan, None)),
    "a cpu limit below its request": changed(cpu=(2.0, 1.0)),
    "negative memory": changed(memory_mib=(-1, None)),
    "a memory limit below its request": changed(memory_mib=(2, 1)),
    "no disk": changed(ephemeral_disk_mib=0),
    "a gpu's count": changed(gpu=("H100:0",)),
    "a gpu's name": changed(gpu=("H100;reboot",)),
    "parameters of a function": changed(parameters=CLASS.parameters),
    "a parameter's type": changed(
        is_class=True, parameters=(Parameter(name="n", type="float", required=True),)
    ),
    "a parameter's name": changed(
        is_class=True, parameters=(Parameter(name="a&b", type="int", required=True),)
    ),
    "a default of another type": changed(
        is_class=True, parameters=(Parameter(name="n", type="int", required=False, default=True),)
    ),
    "a label": of_web(label="a.b"),
    "a label in capitals": of_web(label="Shop"),
    "a method": of_web(http_method="GET /x"),
    "a port of a function": of_web(port=80),
    "a server without a port": of_web(kind=WebKind.WEB_SERVER),
    "a port": of_web(kind=WebKind.WEB_SERVER, port=70000),
    "a start that takes no time": of_web(startup_timeout_s=0.0),
    "a domain with a blank": of_web(custom_domains=("a b.example",)),
    "a star within a domain": of_web(custom_domains=("a.*.example",)),
    "a star alone": of_web(custom_domains=("*",)),
    "an address": of_web(custom_domains=("10.0.0.1",)),
    "a domain of one label": of_web(custom_domains=("com",)),
    "a line in a domain": of_web(custom_domains=("a.example\nb.example",)),
    "a domain that is not canonical": of_web(custom_domains=("bücher.example",)),
    "a path with dots": of_files("../a"),
    "a path with dots inside": of_files("a/../../b"),
    "a path with an empty part": of_files("a//b"),
    "an empty path": of_files(""),
    "a NUL in a path": of_files("a\0b"),
    "half a character in a path": of_files("a\ud800b"),
    "a path twice": of_files("a", "a"),
    "a file that is a directory": of_files("a", "a/b/c"),
    "a hash": of_files("a", sha256="A" * 64),
    "a size": of_files("a", size_bytes=-1),
    "a mode": of_files("a", mode=0o70000),
    "a secret of a path": changed(secrets=(SecretRef(name="f00/f/0"),)),
    "a secret of nothing": changed(secrets=(SecretRef(),)),
    "a secret's key": changed(secrets=(SecretRef(values={"A=B": "1"}),)),
    "a long secret": changed(secrets=(SecretRef(values={"A": "1" * 32769}),)),
    "a step without its packages": of_step("pip_install"),
    "variables that are null": of_step("env", vars=None),
    "an entrypoint that is null": of_step("entrypoint", commands=None),
    "a step whose packages are null": of_step("pip_install", packages=None),
    "a step whose packages are numbers": of_step("pip_install", packages=[1]),
    "a workdir without a path": of_step("workdir"),
    "a step's variables": of_step("env", vars={"A": 1}),
    "a step's timeout": of_step("run_function", module="m", qualname="f", timeout="1"),
    "a step's files": of_step("add_local_file", local_path="a", remote_path="a", files={"../a": SHA256}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_that_breaks_a_rule_is_refused_in_words(name):
    with pytest.raises(Failure) as refusal:
        validate.check(BAD[name])

    assert 400 == refusal.value.status
    assert 5 < len(refusal.value.message) < 500


BOUNDS = {
    "min_containers": (0, 5),  # the function's `max_containers`
    "max_containers": (1, 10_000),
    "buffer_containers": (0, 10_000),
    "max_inputs": (1, 1000),
    "scaledown_window_s": (2.0, 3600.0),
    "timeout_s": (1.0, 86400.0),
    "startup_timeout_s": (1.0, 86400.0),
    "exit_grace_s": (0.0, 3600.0),
    "ephemeral_disk_mib": (1, 2**30),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_least_and_the_most_are_allowed_and_nothing_beyond(name):
    least, most = BOUNDS[name]
    for value in (least, most):
        validate.check(changed(**{name: value}))
    for value in (least - 1, most + 1):
        with pytest.raises(Failure, match=f"must be from {least:g} to "):
            validate.check(changed(**{name: value}))


@pytest.mark.parametrize("name", ["cpu", "memory_mib"])
def test_a_request_and_its_limit_may_be_equal(name):
    most = validate.MAX_CORES if name == "cpu" else validate.MAX_MIB
    for value in (0, most):
        validate.check(changed(**{name: (value, value)}))
        validate.check(changed(**{name: (value, None)}))
    for wrong in ((most + 1, None), (0, most + 1), (-1, 0), (2, 1)):
        with pytest.raises(Failure):
            validate.check(changed(**{name: wrong}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("functions",), "abc"),
        (("functions", 0), None),
        (("functions", 0, "gpu"), "L4"),
        (("functions", 0, "min_containers"), True),
        (("functions", 0, "min_containers"), 1.0),
        (("functions", 0, "timeout_s"), "5"),
        (("functions", 0, "web", 0, "kind"), "cgi"),
        (("functions", 0, "web", 0, "docs"), 1),
        (("functions", 0, "image", "steps", 0, "args"), []),
        (("functions", 0, "memory_mib"), [1, 2, 3]),
        (("functions", 0, "cpu"), [0.5]),
        (("files", 0, "path"), ["a"]),
        (("files", 0, "size_bytes"), 2**70),
        (("tags",), [["a", "b"]]),
        (("app_name",), {"base64": "c2hvcA=="}),
    ],
)
def test_the_wrong_type_is_refused(path, value):
    data = as_json()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(BadRequest):
        validate.read(data)


@pytest.mark.parametrize("data", [None, [], 3, "x", {}, {"functions": []}])
def test_data_that_is_no_manifest_is_refused(data):
    with pytest.raises(BadRequest):
        validate.read(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM", "example.com"),
        ("*.a.example", "*.a.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_acme.a.example", "_acme.a.example"),
        ("a.example.", None),
        ("-a.example", None),
        ("a" * 64 + ".example", None),
        (".".join(["a" * 60] * 5), None),
        ("*.*.example", None),
        ("", None),
        (".", None),
    ],
)
def test_domains(text, expected):
    try:
        domain = methods.domain(text)
    except ValueError:
        domain = None

    assert expected == domain


NESTED: Any = []
for _ in range(200):
    NESTED = [NESTED]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            "../x",
            "/",
            "a\0b",
            "\ud800",
            "x" * 5000,
            "\x1b[2J",
            "a;b",
            "a b",
            "",
            "%0a",
            "{}",
            NESTED,
        ]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@st.composite
def mutated(draw) -> Any:
    """A good manifest's JSON with one to three of its values replaced, removed or doubled."""
    data = as_json()
    for _ in range(draw(st.integers(1, 3))):
        place: Any = data
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            how = draw(st.sampled_from(["replace", "remove", "double"]))
            if how == "replace":
                place[key] = copy.deepcopy(draw(VALUES))  # the next mutation may change it
            elif how == "remove":
                del place[key]
            elif isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
            break
    return data


@settings(max_examples=100, deadline=None)
@given(data=mutated())
def test_a_mutated_manifest_is_read_or_refused(data):
    result = read_or_refusal(data)
    if isinstance(result, Failure):
        assert 400 == result.status
        assert len(result.message) < 1000
        return
    # A manifest that is accepted can be stored, and is the same after that.
    assert result == codec.loads(Manifest, codec.dumps(result).encode())
    validate.check(result)


def read_or_refusal(data: Any) -> Manifest | Failure:
    try:
        return validate.read(data)
    except Failure as failure:
        return failure


@given(data=st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_plain_or_refused(data):
    try:
        shape.plain(data)
    except BadRequest:
        return
    json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
