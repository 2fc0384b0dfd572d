"""A function with other options."""

import dataclasses

import pytest

from homeport.contract import codec
from homeport.contract.calls import Retries, endpoint_id
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import Batch, CallMethod, FunctionSpec, SecretRef, VolumeMount
from homeport.contract.variants import Options, varied

F = FunctionSpec(
    name="f",
    module="script",
    qualname="f",
    calls=(CallMethod(tag="f", attribute="f"),),
    min_containers=2,
    max_inputs=4,
    target_inputs=2,
    secrets=(SecretRef(name="old"),),
    timeout_s=300.0,
    retries=Retries(max_retries=3),
)


def test_an_option_that_is_given_replaces_the_functions_and_the_others_stay():
    options = Options(
        cpu=(2.0, None),
        secrets=(SecretRef(name="new"),),
        volumes=(VolumeMount(path="/v", name="v"),),
        retries=Retries(max_retries=0),
        timeout_s=5.0,
        region=("eu",),
    )
    told = varied(F, options)

    assert ("eu",) == told.region
    assert ((2.0, None), 5.0, 0) == (told.cpu, told.timeout_s, told.retries.max_retries)
    assert ["new"] == [secret.name for secret in told.secrets]
    assert (0, 4, 2) == (told.min_containers, told.max_inputs, told.target_inputs)
    same = dataclasses.replace(F, min_containers=0)
    assert same == varied(F, Options())


def test_concurrent_inputs_and_batches_are_multiplied():
    batched = varied(F, Options(batch=Batch(size=10, wait_ms=5)))
    again = varied(batched, Options(batch=Batch(size=3, wait_ms=5)))
    wide = varied(batched, Options(max_inputs=7))

    assert (40, 20, 10) == (
        batched.max_inputs,
        batched.target_inputs,
        batched.calls[0].batch.size,
    )
    assert (12, 6) == (again.max_inputs, again.target_inputs)
    assert (70, None) == (wide.max_inputs, wide.target_inputs)


def test_options_that_do_not_fit_the_function_are_refused():
    several = dataclasses.replace(F, calls=(*F.calls, CallMethod(tag="g", attribute="g")))
    generator = dataclasses.replace(F, calls=(CallMethod(tag="f", attribute="f", generator=True),))
    for spec in (several, generator):
        with pytest.raises(BadRequest, match="cannot be batched"):
            varied(spec, Options(batch=Batch(size=2, wait_ms=1)))
    with pytest.raises(BadRequest, match="target_inputs"):
        varied(F, Options(max_inputs=2, target_inputs=3))


def test_the_digest_is_the_same_after_a_journey_as_json():
    options = Options(cpu=(2.0, 4.0), gpu=("L4",), secrets=(SecretRef(values={"A": "é"}),))
    arrived = codec.loads(Options, options.body)

    assert (options, options.digest) == (arrived, arrived.digest)
    assert "é" not in repr(options)
    plain = endpoint_id("shop", "f", key="k")
    assert (
        plain
        == endpoint_id("shop", "f", key="k", variant="")
        != endpoint_id("shop", "f", key="k", variant="0a")
    )
