"""Which files are uploaded, and what is said about the others."""

import pytest

from homeport import settings
from homeport.client import Client
from homeport.contract.errors import ScriptError

PAGE = """
    import modal

    app = modal.App("page", image=modal.Image().add_local_dir("data", "/root/data"))

    @app.function()
    @modal.fastapi_endpoint()
    def page():
        import later

        return [open("data/a.txt").read(), later.ANSWER]
"""


def test_a_mounted_directory_and_a_module_imported_later_are_found(terminal, write, visitor):
    write("ANSWER = 42", "later.py")
    write("a", "data/a.txt")
    script = write(PAGE)
    (script.parent / "data" / "circle").symlink_to("..")
    done = terminal.run("deploy", script, cwd=script.parent)

    assert "left out of" in done.stderr
    assert ["a", 42] == visitor.get(terminal.urls()["page"]).json()


async def test_a_file_that_changes_or_goes_while_it_is_uploaded_is_named(terminal, write):
    terminal.run("up")
    path = write("x = 1")
    async with Client(settings.load(terminal.environ)) as client:
        with pytest.raises(ScriptError, match=r"script.py changed while it was uploaded"):
            await client.blobs.upload({"0" * 64: str(path)})
        path.unlink()
        with pytest.raises(ScriptError, match=r"script.py cannot be read any more"):
            await client.blobs.upload({"0" * 64: str(path)})


def test_without_isolation_a_file_outside_of_the_app_is_refused_with_its_place(terminal, write):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"
    write("a", "data/a.txt")
    script = write(PAGE.replace("/root/data", "/srv/data"))
    done = terminal.run("deploy", script, cwd=script.parent, check=False)

    assert 1 == done.returncode
    assert "error: `/srv/data/a.txt` lies outside /root" in done.stderr
    assert "  script.py:4" in done.stderr
