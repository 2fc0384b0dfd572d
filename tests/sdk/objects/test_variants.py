"""`with_options`, `with_concurrency` and `with_batching` of functions and classes, deployed and by name."""

import json

import pytest

import homeport as modal
from homeport.contract.calls import Retries
from homeport.contract.manifest import Batch
from homeport.sdk import context, exception
from homeport.sdk.objects import variants
from tests.functions import APP, served

app = modal.App("shop")


@app.function(cpu=1.0)
def f(x=0):
    return x


@app.cls()
class Model:
    size: int = modal.parameter(default=1)

    @modal.method()
    def run(self):
        return self.size


@pytest.fixture
def inside(monkeypatch):
    monkeypatch.setattr(context, "_reach", context.Reach(socket="/nowhere", app=APP, key="k"))


def test_options_are_checked_and_turned_into_the_contracts(inside):
    options = f.with_options(
        cpu=2,
        memory=(128, 512),
        gpu="L4",
        env={"A": "1", "B": None},
        volumes={"/v": modal.Volume.from_name("v")},
        retries=0,
        max_containers=3,
        scaledown_window=10,
        timeout=20,
    )
    options_sent = options.target().options

    assert ((2.0, None), (128, 512), ("L4",)) == (
        options_sent.cpu,
        options_sent.memory_mib,
        options_sent.gpu,
    )
    assert ({"A": "1"}, "/v") == (options_sent.secrets[0].values, options_sent.volumes[0].path)
    assert Retries(max_retries=0, initial_delay_s=1.0, backoff=1.0) == options_sent.retries
    assert (3, 10.0, 20.0) == (
        options_sent.max_containers,
        options_sent.scaledown_window_s,
        options_sent.timeout_s,
    )
    assert None is f.target().options
    assert 7 == options.local(7)


def test_later_options_are_added_and_replace(inside):
    first = f.with_options(cpu=2, timeout=5, env={"A": "1"})
    second = first.with_options(cpu=3, env={"B": "2"}).with_concurrency(max_inputs=4)
    third = second.with_batching(max_batch_size=2, wait_ms=5)
    options_sent = third.target().options

    assert ((3.0, None), 5.0, [{"B": "2"}]) == (
        options_sent.cpu,
        options_sent.timeout_s,
        [secret.values for secret in options_sent.secrets],
    )
    assert (4, None, Batch(size=2, wait_ms=5)) == (
        options_sent.max_inputs,
        options_sent.target_inputs,
        options_sent.batch,
    )
    assert (2.0, None) == first.target().options.cpu


def test_equal_options_have_one_endpoint_wherever_they_are_written(inside):
    secrets = [modal.Secret.from_dict({"A": "1"})]
    varied = f.with_options(secrets=secrets)
    other = f.with_options(secrets=[modal.Secret.from_dict({"A": "1"})])

    assert varied.target().endpoint == other.target().endpoint != f.target().endpoint


def test_classes_and_what_is_looked_up_have_them_too(inside):
    declared = Model.with_options(cpu=2)(size=3).run.target()
    named = modal.Cls.from_name("shop", "Model").with_options(cpu=2)(size=3).run.target()
    function = modal.Function.from_name("shop", "f").with_options(cpu=2)

    assert ("size=3", declared.options) == (declared.query, named.options)
    assert (declared.query, "Model.run") == (named.query, named.tag)
    assert None is Model(size=3).run.target().options
    assert declared.options == function.target().options
    assert 5.0 == function.with_options(timeout=5).target().options.timeout_s
    assert (2.0, None) == function.with_options(timeout=5).target().options.cpu


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"min_containers": 1}, TypeError, "min_containers"),
        ({"cpu": "much"}, exception.InvalidError, "cpu"),
        ({"max_containers": 0}, exception.InvalidError, "max_containers"),
        ({"timeout": 10**6}, exception.InvalidError, "timeout"),
        ({"scaledown_window": 1}, exception.InvalidError, "scaledown_window"),
        ({"secrets": ["a"]}, exception.InvalidError, "secrets"),
        ({"volumes": {"/": modal.Volume.from_name("v")}}, exception.InvalidError, "root"),
        ({"retries": -1}, exception.InvalidError, "non-negative"),
        ({"gpu": "L4:x"}, exception.InvalidError, "GPU count"),
        ({"env": {"1": "a"}}, exception.InvalidError, "environment variable"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(keywords, error, text):
    for subject in (f, Model, modal.Function.from_name("a", "f"), modal.Cls.from_name("a", "M")):
        with pytest.raises(error, match=text):
            subject.with_options(**keywords)


def test_concurrency_and_batches_have_bounds():
    with pytest.raises(exception.InvalidError, match="max_inputs"):
        f.with_concurrency(max_inputs=0)
    with pytest.raises(exception.InvalidError, match="cannot be greater"):
        f.with_concurrency(max_inputs=2, target_inputs=3)
    with pytest.raises(exception.InvalidError, match="positive"):
        f.with_batching(max_batch_size=0, wait_ms=1)
    with pytest.raises(exception.InvalidError, match="600000"):
        f.with_batching(max_batch_size=1, wait_ms=600_001)


def test_a_variant_is_asked_for_once_and_again_when_it_is_gone(tmp_path, monkeypatch):
    endpoints = []
    with served(tmp_path / "calls.sock") as functions:

        def double(x):
            return 2 * x

        varied = functions.add(double).with_options(cpu=2)
        target = varied.target()

        def make(asked_for):
            endpoints.append(asked_for.endpoint)
            functions.apps[target.endpoint] = next(iter(functions.apps.values()))
            variants._made.add(target.endpoint)
            yield from ()

        monkeypatch.setattr(variants, "make", make)
        assert [2, 4] == [varied.remote(1), varied.remote(2)]
        assert [6, 8] == list(varied.map([3, 4]))
        assert 1 == len(endpoints)
        del functions.apps[target.endpoint]
        assert 10 == varied.remote(5)
        assert 2 == len(endpoints)


def test_a_server_that_never_knows_the_variant_is_not_asked_for_ever(tmp_path, monkeypatch):
    def make(_target):
        yield from ()

    monkeypatch.setattr(variants, "make", make)
    with served(tmp_path / "calls.sock") as functions:
        varied = functions.add(lambda: 1).with_options(cpu=2)
        with pytest.raises(modal.exception.NotFoundError):
            varied.remote()


def test_the_request_for_a_variant_has_its_options(inside):
    target = modal.Function.from_name("shop", "f", version=3).with_options(cpu=2).target()
    steps = variants.make(target)
    request = next(steps)

    assert "/v1/functions/shop/f/variants?version=3" == request.target
    assert {"cpu": [2.0, None]} == json.loads(request.body)
    variants.forget(target)
    assert not variants.is_made(target)
    with pytest.raises(StopIteration):
        steps.send(b"")
    assert variants.is_made(target)
