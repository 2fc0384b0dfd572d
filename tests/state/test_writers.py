"""Several processes write into one database at once, and nothing is lost."""

import subprocess
import sys

from homeport.state import schema, urls
from homeport.state.database import Database
from homeport.state.store import Store

WRITERS, EACH = 4, 20
CODE = """
import asyncio, sys
from pathlib import Path
from homeport.contract.manifest import Manifest
from homeport.state import urls
from homeport.state.database import Database
from homeport.state.store import Store

async def main(setting, home, number, count):
    database = Database(urls.of(setting, Path(home)))
    store = Store(database)
    await store.apps()
    print("ready", flush=True)
    sys.stdin.readline()
    for each in range(int(count)):
        await store.add_revision(f"rv-{number}-{each}", "shop", Manifest(app_name="shop"), "f", "")
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_four_writers_of_revisions_at_once_lose_nothing(database_setting, tmp_path):
    database = Database(urls.of(database_setting, tmp_path))
    schema.prepare(database)
    words = [sys.executable, "-c", CODE, database_setting, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    writers = [
        subprocess.Popen([*words, str(number), str(EACH)], text=True, **pipes)
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert "ready\n" == writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ends = [(writer.communicate()[1], writer.returncode) for writer in writers]
    revisions = await Store(database).revisions("shop")
    await database.close()

    assert [("", 0)] * WRITERS == ends
    assert list(range(WRITERS * EACH, 0, -1)) == [revision.version for revision in revisions]
