"""What an import leaves behind that a fork cannot copy."""

import pytest

from homeport.sdk.preload import loaded


@pytest.fixture
def parameters(tmp_path, monkeypatch):
    """A file that stands for the one which NVIDIA's libraries read."""
    (path := tmp_path / "params").write_text("ModifyDeviceFiles: 1\n")
    monkeypatch.setattr(loaded, "PARAMETERS", str(path))
    monkeypatch.setattr(loaded, "_threads", lambda: 1)  # of the test's own
    return path


def test_an_import_that_asks_nvidias_driver_for_devices_is_noticed(parameters):
    watch = loaded.Forkable()
    parameters.read_text()

    assert "it asks NVIDIA's driver, and no GPU is visible yet" == watch.left_behind()


def test_an_import_that_only_loads_the_drivers_libraries_is_not_noticed(parameters):
    parameters.read_text()  # before
    watch = loaded.Forkable()
    parameters.stat()

    assert "" == watch.left_behind()


def test_without_a_driver_nothing_is_watched(parameters):
    parameters.unlink()

    assert "" == loaded.Forkable().left_behind()
