"""The Python that homeport lays into a root file system."""

from homeport.node.images.owned import hands
from homeport.node.images.rooted import python


async def test_a_python_is_laid_in_without_the_mark_that_stops_pip(tmp_path):
    library = tmp_path / "python" / "lib" / "python3.12"
    library.mkdir(parents=True)
    (library / python.MARKER).write_text("[externally-managed]\n")
    (library / "os.py").write_text("")
    hands.mkdir(tmp_path / "files")
    order = {"do": "tree", "source": str(tmp_path / "python"), "place": python.PLACE}
    await hands.counts({**order, "without": python.MARKER, "into": str(tmp_path / "files")})

    laid = tmp_path / "files" / python.PLACE / "lib" / "python3.12"
    assert ["os.py"] == [path.name for path in laid.iterdir()]
