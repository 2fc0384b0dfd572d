"""Spawned calls of variants: their options are sealed, and made again when they are gone."""

import contextlib

import pytest

from homeport.contract.calls import Retries, endpoint_id
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import CallMethod, FunctionSpec, SecretRef
from homeport.contract.variants import Options
from homeport.control.calls import varied
from homeport.control.calls.spawned import Spawned
from homeport.control.calls.varied import Varied
from homeport.control.deploys.variants import Variants
from homeport.state.calls import CallRow, Calls, Outcome
from homeport.state.vault import Vault
from tests.control.plane import KEY, Plane, manifest
from tests.waiting import virtual

F = FunctionSpec(name="f", module="m", qualname="f", calls=(CallMethod(tag="f", attribute="f"),))
OPTIONS = Options(secrets=(SecretRef(values={"KEY": "hunter2"}),), retries=Retries(max_retries=1))
CALL = CallRow(id="fc-" + "1" * 40, endpoint="", app="shop", tag="f")


@contextlib.asynccontextmanager
async def planned(tmp_path):
    plane = Plane(tmp_path)
    async with plane:
        await plane.deploy(manifest(F))
        plane.variants = Variants(plane.parts, plane.mounts)
        rows = Calls(plane.database, tmp_path / "calls")
        maker = Varied(plane.variants, Vault(tmp_path / "vault.key"), plane.environments.key)
        plane.spawned = Spawned(rows, plane.variants.retries_of, maker, key=plane.environments.key)
        yield plane
        await plane.variants.close()


@virtual
async def test_a_spawned_call_has_its_options_with_it(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.spawned.spawn(CALL, "", [b"input"], OPTIONS)
        (row,) = await plane.spawned.rows.find(CALL.id)

        assert endpoint_id("shop", "f", key=KEY, variant=OPTIONS.digest) == row.endpoint
        assert b"hunter2" not in row.options
        before = plane.parts.endpoints.endpoint(row.endpoint)
        for pool in plane.pools:
            if pool.variant:
                pool.retire(0.0)
        await plane.spawned.prepare(row)
        assert before is not plane.parts.endpoints.endpoint(row.endpoint)


@virtual
async def test_the_retries_of_a_variant_count_also_after_it_was_forgotten(tmp_path):
    async with planned(tmp_path) as plane:
        await plane.spawned.spawn(CALL, "", [b"input"], OPTIONS)
        (row,) = await plane.spawned.rows.find(CALL.id)
        plane.variants._made.clear()
        plane.parts.endpoints._routed.pop(row.endpoint)
        await plane.spawned.rows.claim(row.id, 0, 0, "ta-1")
        await plane.spawned.end(row, Outcome(kind="ended", python="", body=b""))

        (row,) = await plane.spawned.rows.find(CALL.id)
        assert ("waiting", 1) == (row.state, row.attempt)


@virtual
async def test_options_that_cannot_be_are_refused_before_the_call_is_saved(tmp_path):
    async with planned(tmp_path) as plane:
        wrong = Options(max_inputs=1, target_inputs=2)
        with pytest.raises(BadRequest):
            await plane.spawned.spawn(CALL, "", [b"input"], wrong)
        with pytest.raises(NotFound):
            await plane.spawned.rows.find(CALL.id)


def test_options_that_are_none_are_refused():
    assert OPTIONS == varied.read(OPTIONS.body, OPTIONS.digest)
    for text, digest, why in (
        (b"{", "", "not JSON"),
        (b'{"cpu": "much"}', "", "cannot be read"),
        (OPTIONS.body, "0" * 32, "digest"),
    ):
        with pytest.raises(BadRequest, match=why):
            varied.read(text, digest)
