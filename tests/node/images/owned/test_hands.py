"""Orders for the process that works on layers. `test_within.py` has the work."""

import tempfile

from homeport.node.images.owned import hands


async def test_an_order_that_no_process_has_read_is_deleted(tmp_path, monkeypatch):
    """The variables of a step may be secret."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    order = {"do": "measure", "directory": str(tmp_path), "environ": {"TOKEN": "hush"}}
    done = await hands.ask(order, before=("/there/is/no/such/program",))

    assert 0 != done.code
    assert [] == list(tmp_path.iterdir())
