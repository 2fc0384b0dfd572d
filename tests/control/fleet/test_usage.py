"""The looks at what containers use, told on a virtual clock with a fake node."""

import asyncio

from homeport.contract.capacity import Usage
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.usage import EVERY_S, Sampler
from tests.control.plane import Plane, function, manifest
from tests.waiting import virtually


class Kept:
    """What a sampler has seen."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, float, dict]] = []

    def __call__(self, at, span_s, samples) -> None:
        self.looks.append((at, span_s, dict(samples)))

    @property
    def last(self):
        (sample,) = self.looks[-1][2][MAIN]
        return sample


async def story(tmp_path, tell):
    async with Plane(tmp_path) as plane:
        kept = Kept()
        sampler = Sampler(plane.nodes, plane.parts.pools, kept, asyncio.get_running_loop().time)
        hear = plane.nodes._hear
        plane.nodes.watch(lambda c: (sampler.changed(c), hear(c)))
        sampler.open()
        await tell(plane, sampler, kept)
        await sampler.close()


def test_a_server_without_containers_is_not_woken(tmp_path):
    async def tell(_plane, sampler, kept):
        await asyncio.sleep(10 * EVERY_S)

        assert [] == kept.looks
        assert not sampler._wanted.is_set()

    virtually(story(tmp_path, tell))


def test_containers_are_looked_at_until_they_have_ended(tmp_path):
    async def tell(plane, sampler, kept):
        await plane.deploy(manifest(function("f", min_containers=1)))
        await asyncio.sleep(EVERY_S * 2.5)
        looks = len(kept.looks)
        assert looks >= 2
        first = kept.looks[0][2][MAIN][0]
        assert ("shop", "f", 1, 0) == (
            first.app,
            first.function,
            first.cold_starts,
            first.failed_starts,
        )
        assert (1, 0, 1) == (kept.last.containers, kept.last.cold_starts, kept.last.memory_mib)
        assert EVERY_S == kept.looks[-1][1]
        await plane.deployer.stop(Owner.app(MAIN, "shop"))
        await asyncio.sleep(EVERY_S * 3)
        ended = len(kept.looks)
        assert not sampler._wanted.is_set()
        await asyncio.sleep(EVERY_S * 3)

        assert ended == len(kept.looks)

    virtually(story(tmp_path, tell))


def test_the_time_of_the_processor_is_what_came_since_the_look_before(tmp_path):
    async def tell(plane, sampler, kept):
        await plane.deploy(manifest(function("f", min_containers=1)))
        (container,) = [each.id for each in plane.nodes.containers()]
        plane.node.used[container] = Usage(cpu_s=5.0, memory_mib=20)
        await sampler.look()
        plane.node.used[container] = Usage(cpu_s=6.5, memory_mib=40, gpu_memory_mib=9)
        await sampler.look()
        assert (1.5, 40, 9) == (kept.last.cpu_s, kept.last.memory_mib, kept.last.gpu_memory_mib)
        plane.node.used[container] = Usage(cpu_s=6.0, memory_mib=40)  # a child went unnoticed
        await sampler.look()

        assert 0 == kept.last.cpu_s

    virtually(story(tmp_path, tell))


def test_a_container_of_an_earlier_server_has_used_nothing_since(tmp_path):
    async def tell(plane, _sampler, _kept):
        await plane.deploy(manifest(function("f", min_containers=1)))
        (container,) = [each.id for each in plane.nodes.containers()]
        plane.node.used[container] = Usage(cpu_s=500.0, memory_mib=20)
        kept = Kept()
        later = Sampler(plane.nodes, plane.parts.pools, kept, lambda: 1e12)
        later.open()
        await later.look()
        await later.close()

        assert (1, 0, 0) == (kept.last.containers, kept.last.cold_starts, kept.last.cpu_s)

    virtually(story(tmp_path, tell))
