"""In which thread an alert's value is read: the server's loop changes some of them meanwhile."""

import asyncio
import threading

from homeport.control.reporting.alerts import rules
from tests.control.reporting.alerts.test_watcher import row, story


def test_values_that_the_loop_changes_are_read_on_the_loop(tmp_path):
    async def tell(house):
        threads = []

        def read(*_scope):
            threads.append(threading.current_thread())
            return []

        watcher = house.watcher
        watcher._certificates = watcher._canaries = watcher._machines = read
        for kind in rules.OF_LOOP:
            await watcher.look(row(kind, kind=kind, threshold=1.0))

        assert [threading.main_thread()] * len(rules.OF_LOOP) == threads

    asyncio.run(story(tmp_path, tell))
