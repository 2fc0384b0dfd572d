"""How `homeport serve` sees a save. tests/journeys/test_serve.py has the rest."""

import asyncio

import pytest
import watchfiles

import homeport.settings
from homeport.cli import live
from homeport.cli.serve import Session
from homeport.sdk import watched


@pytest.fixture
def session(home, tmp_path):
    """A session that has loaded one script."""
    settings = homeport.settings.load({"HOMEPORT_HOME": str(home)})
    (script := tmp_path / "script.py").write_text("first")
    session = Session(
        settings, str(script), name="", module=False, timestamps=False, builds=live.Builds()
    )
    session._declarer.watch = {str(script): watched.state(str(script))}
    return session


async def test_a_save_is_seen_where_the_system_watches_no_more_files(
    session, tmp_path, monkeypatch, capsys
):
    awatch, polls = watchfiles.awatch, []

    def limited(*folders, force_polling, **options):
        polls.append(force_polling)
        if not force_polling:
            raise RuntimeError("Too many open files")
        return awatch(*folders, force_polling=True, poll_delay_ms=10, **options)

    monkeypatch.setattr(watchfiles, "awatch", limited)
    watching = asyncio.create_task(session._watch())
    (tmp_path / "script.py").write_text("the second")
    async with asyncio.timeout(60):
        await session._saved.wait()
    watching.cancel()
    await asyncio.wait({watching})

    assert [None, True] == polls
    assert (
        "warning: the system watches no more files (Too many open files)" in capsys.readouterr().err
    )
