"""Which files of a machine are those of NVIDIA's driver."""

import os
import shutil

import pytest

from homeport.node.limits import driver
from tests.node.limits import libraries
from tests.node.limits.libraries import VERSION


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a driver, which no test changes."""
    return libraries.build(tmp_path_factory.mktemp("driver") / "nvidia")


@pytest.fixture
def folder(built, tmp_path):
    """A copy of it."""
    shutil.copytree(built.parent, tmp_path / "nvidia", symlinks=True)
    return tmp_path / "nvidia/lib64"


def found(*folders, environ=None, cached=()):
    # Without the programs of a driver that this machine may have.
    return driver.find(
        {"PATH": "/none", **(environ or {})}, [str(each) for each in folders], cached=cached
    )


def test_a_folder_of_the_driver_has_its_libraries_names_and_programs(built):
    there = found(built)

    assert VERSION == there.version
    assert {f"{name}.so.{VERSION}" for name in libraries.LIBRARIES} == set(there.libraries)
    assert f"libcuda.so.{VERSION}" == there.names["libcuda.so.1"]
    assert f"libnvidia-nvvm.so.{VERSION}" == there.names["libnvidia-nvvm.so.4"]
    assert {"nvidia-smi": str(built.parent / "bin/nvidia-smi")} == there.programs
    assert there.has(driver.CUDA)
    assert there.is_there()


def test_the_first_directory_in_the_loaders_order_counts(built, folder):
    assert (
        str(folder)
        in found(built, environ={"LD_LIBRARY_PATH": f"::{folder}"}).libraries[
            f"libcuda.so.{VERSION}"
        ]
    )
    assert str(folder) in found(built, cached=[str(folder)]).libraries[f"libcuda.so.{VERSION}"]


def test_names_are_made_where_nobody_has_made_the_links(tmp_path):
    there = found(libraries.build(tmp_path / "nvidia", links=False))

    assert f"libcuda.so.{VERSION}" == there.names["libcuda.so.1"]
    assert "libnvidia-gpucomp.so.1" not in there.names  # its own name has the version


def test_files_of_another_driver_beside_it_are_left_out(folder):
    for name in ("libcuda", "libnvidia-ptxjitcompiler"):
        shutil.copy(folder / f"{name}.so.{VERSION}", folder / f"{name}.so.535.1.2")
    (folder / "libnvidia-ml.so.1").unlink()
    (folder / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{VERSION}")
    there = found(folder)

    assert VERSION == there.version
    assert not [name for name in there.libraries if "535" in name]


@pytest.mark.parametrize("broken", ["outside", "nowhere", "text", "private", "directory"])
def test_a_file_that_is_no_library_of_the_driver_is_left_out(folder, tmp_path, broken):
    path = folder / f"libnvidia-ptxjitcompiler.so.{VERSION}"
    content = path.read_bytes()
    path.unlink()
    if broken == "outside":
        (tmp_path / "secret").write_bytes(content)
        path.symlink_to(tmp_path / "secret")
    elif broken == "nowhere":
        path.symlink_to(tmp_path / "nowhere")
    elif broken == "text":
        path.write_text("no library")
    elif broken == "directory":
        path.mkdir()
    else:
        path.write_bytes(content)
        path.chmod(0o600)
    there = found(folder)

    assert path.name not in there.libraries
    assert "libnvidia-ptxjitcompiler.so.1" not in there.names
    assert there.has(driver.CUDA)


def test_a_driver_that_was_replaced_is_not_there_any_more(folder):
    there = found(folder)
    (folder / f"libnvidia-nvvm.so.{VERSION}").unlink()

    assert not there.is_there()


def test_without_a_driver_there_is_nothing(tmp_path):
    assert driver.Driver() == found(tmp_path, tmp_path / "none")
    assert not driver.Driver().is_there()
    assert not driver.Driver().has(driver.CUDA)


def test_the_loaders_cache_is_read_without_failing():
    assert all(os.path.isabs(path) for path in driver._cached())
