"""The end of a container that can serve no more, and tasks that try to end its loop."""

import asyncio

from homeport.runner.report import Report
from homeport.runner.servers import serving
from homeport.runner.servers.serving import Serving
from tests.orders import order


class Door:
    """Records whether it was shut."""

    is_shut = False

    def shut(self) -> None:
        self.is_shut = True


def test_a_container_with_too_many_hanging_requests_takes_no_more_and_ends(capsys):
    async def story():
        door = Door()
        begun = Serving.begin(order(), door, None, Report(lambda _event: None), lambda: None)
        begun.slots.stick(lambda: True)
        before = door.is_shut
        begun.slots.stick(lambda: True)

        assert (False, True) == (before, door.is_shut)
        assert (True, True) == (begun.ending.requested.is_set(), begun.ending.failed)

    asyncio.run(story())
    assert "too many requests of this container hang" in capsys.readouterr().err


def test_a_task_that_raises_system_exit_does_not_end_the_loop(capsys):
    async def exits():
        raise SystemExit(3)

    async def serve():
        task = asyncio.create_task(exits())
        await asyncio.wait([task])
        return 7

    with asyncio.Runner() as runner:
        code = serving.run(runner.get_loop(), serve())

    assert 7 == code
    assert "a task of the script has raised SystemExit" in capsys.readouterr().err
