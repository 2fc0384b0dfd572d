"""What a path is in the layers of an image."""

import os

import pytest

from homeport.node.images.owned import unpack
from homeport.node.images.rooted import merged


@pytest.fixture
def layers(tmp_path):
    """Two layers, the upper one with links, hidden entries and a directory that shows nothing of below."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for path in ("usr/bin", "both/below", "gone/inside", "fresh/below", "was-directory/inside"):
        (lower / path).mkdir(parents=True)
    (lower / "bin").symlink_to("usr/bin")
    for path in ("both/above", "fresh/above"):
        (upper / path).mkdir(parents=True)
    os.setxattr(upper / "fresh", unpack.OPAQUE_MARK, b"y")
    (upper / "was-directory").write_text("")
    for name, target in {
        "to-lower": "/both/below",
        "up": "both/../../../usr",
        "of-the-machine": str(tmp_path),
        "nowhere": "missing",
        "round": "round",
        "usr-link": "bin/../bin",
    }.items():
        (upper / name).symlink_to(target)
    return [str(lower), str(upper)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", True),
        ("/usr/bin", True),
        ("/bin", True),
        ("/bin/", True),
        ("/both/below", True),
        ("/both/above", True),
        ("/to-lower", True),
        ("/up/bin", True),
        ("/usr-link", True),
        ("/fresh/above", True),
        ("/fresh/below", False),
        ("/was-directory", False),
        ("/was-directory/inside", False),
        ("/missing", False),
        ("/missing/inside", False),
        ("/nowhere", False),
        ("/round", False),
        ("/of-the-machine", False),
        ("/of-the-machine/lower", False),
    ],
)
def test_a_path_is_what_the_images_own_links_and_upper_layers_make_of_it(layers, path, expected):
    assert expected == merged.is_directory(layers, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a device file here")
def test_an_entry_that_an_upper_layer_hides_is_no_directory(layers):
    os.mknod(f"{layers[1]}/gone", 0o020000, 0)

    assert not merged.is_directory(layers, "/gone")
    assert not merged.is_directory(layers, "/gone/inside")
