"""Archives of layers, honest and hostile ones."""

import gzip
import io
import os
import resource
import stat
import sys
import tarfile

import pytest

from homeport.node.images.owned import archives, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields):
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, len(content), fields.pop("mode", 0o644)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, content


def archive(*entries, form=tarfile.PAX_FORMAT) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    out.seek(0)
    return out


@pytest.fixture
def layer(tmp_path):
    path = tmp_path / "outer" / "layer"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def into(layer):
    """Unpack an archive into a layer's directory."""

    def unpacked(*given, **limits):
        packed = given[0] if isinstance(given[0], io.BytesIO) else archive(*given)
        root = os.open(layer, os.O_RDONLY)
        try:
            return unpack.unpack(packed, root, ids=1, **limits)
        finally:
            os.close(root)

    return unpacked


def opaque(path) -> bool:
    return unpack.OPAQUE_MARK in os.listxattr(path)


def hidden(path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_a_file_that_the_disk_takes_only_in_part_is_an_error(into):
    """A layer is shared by images, so none may have half of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            into(entry("half", content=b"x" * 1500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstd.compress], ids=["tar", "gz", "zstd"])
def test_files_links_modes_and_dates_are_as_in_the_archive(layer, into, packed):
    told = archive(
        entry("./", tarfile.DIRTYPE, mode=0o755),
        entry("./usr/bin", tarfile.DIRTYPE, mode=0o750, mtime=1000),
        entry("usr/bin/tool", content=b"#!", mode=0o4755, mtime=2000),
        entry("usr/bin/also", tarfile.LNKTYPE, linkname="usr/bin/tool"),
        entry("bin", tarfile.SYMTYPE, linkname="usr/bin"),
        entry("run/pipe", tarfile.FIFOTYPE),
    )
    counted = into(io.BytesIO(packed(told.read())))

    tool = layer / "usr/bin/tool"
    assert (b"#!", 0o4755, 2000) == (
        tool.read_bytes(),
        stat.S_IMODE(tool.stat().st_mode),
        tool.stat().st_mtime,
    )
    assert tool.samefile(layer / "usr/bin/also")
    assert "usr/bin" == os.readlink(layer / "bin")
    assert 1000 == (layer / "usr/bin").stat().st_mtime
    assert stat.S_ISFIFO((layer / "run/pipe").stat().st_mode)
    assert (6, 2) == (counted.entries, counted.bytes)


def test_whiteouts_hide_and_opaque_directories_show_nothing_of_below(layer, into):
    into(
        entry("etc/.wh.shadow"),
        entry("var/lib/.wh..wh..opq"),
        entry("var/lib/new", content=b"1"),
        entry(".wh..wh.plnk", content=b"of another kind of storage"),
    )

    assert hidden(layer / "etc/shadow")
    assert opaque(layer / "var/lib")
    assert b"1" == (layer / "var/lib/new").read_bytes()
    assert ["etc", "var"] == sorted(os.listdir(layer))


def test_a_path_that_a_layer_hides_and_has_is_the_layers_own(layer, into):
    into(
        entry("before", tarfile.DIRTYPE, mode=0o755),
        entry(".wh.before"),
        entry(".wh.after"),
        entry("after", tarfile.DIRTYPE, mode=0o755),
        entry(".wh.file"),
        entry("file", content=b"new"),
    )

    assert opaque(layer / "before")
    assert opaque(layer / "after")
    assert b"new" == (layer / "file").read_bytes()


def test_a_later_entry_replaces_an_earlier_one(layer, into):
    into(
        entry("a/b", content=b"in the directory"),
        entry("a", content=b"a file now"),
        entry("c", content=b"a file"),
        entry("c/d", content=b"below it"),
        entry("e", tarfile.SYMTYPE, linkname="a"),
        entry("e", content=b"no link any more"),
    )

    assert b"a file now" == (layer / "a").read_bytes()
    assert b"below it" == (layer / "c/d").read_bytes()
    assert b"no link any more" == (layer / "e").read_bytes()


@pytest.mark.parametrize(
    "name", ["/absolute", "down/../../../escaped", "a/../../b", "..", "./../x"], ids=str
)
def test_no_name_leads_out(layer, into, name):
    if name == "/absolute":
        into(entry(name, content=b"inside"))
        assert b"inside" == (layer / "absolute").read_bytes()
    else:
        with pytest.raises(archives.UnfitError, match="leads out"):
            into(entry(name, content=b"outside"))

    assert ["layer"] == os.listdir(layer.parent)


@pytest.mark.parametrize("to", ["/", "..", "../..", "/proc/self/cwd", "up/../.."])
def test_no_symbolic_link_leads_out(layer, into, to):
    outside = layer.parent / "victim"
    outside.write_text("untouched")
    told = [
        entry("up", tarfile.DIRTYPE, mode=0o755),
        entry("link", tarfile.SYMTYPE, linkname=to),
        entry("link/victim", content=b"owned"),
        entry("link/.wh.victim"),
        entry("link/made/deep", content=b"owned"),
    ]
    try:
        into(*told)
    except archives.UnfitError as error:
        assert "leads nowhere" in str(error)  # noqa: PT017 - a link may lead to the layer itself

    assert "untouched" == outside.read_text()
    assert ["layer", "victim"] == sorted(os.listdir(layer.parent))
    assert not os.path.exists("/made")


@pytest.mark.parametrize("target", ["../victim", "/etc/passwd", "link/victim", "gone", "etc", ""])
def test_a_hard_link_is_to_a_file_of_the_layer(layer, into, target):
    (layer.parent / "victim").write_text("secret")

    with pytest.raises(archives.UnfitError):
        into(
            entry("etc", tarfile.DIRTYPE, mode=0o755),
            entry("link", tarfile.SYMTYPE, linkname=".."),
            entry("stolen", tarfile.LNKTYPE, linkname=target),
        )
    assert 1 == (layer.parent / "victim").stat().st_nlink


def test_devices_are_left_out(layer, into):
    counted = into(
        entry("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1),
        entry("dev/hidden", tarfile.CHRTYPE, devmajor=0, devminor=0),
    )

    assert 3 == counted.devices
    assert [] == os.listdir(layer / "dev")


def test_attributes_that_overlayfs_believes_are_left_out(layer, into):
    member, content = entry("f", content=b"1")
    member.pax_headers = {
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.metacopy": "",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.capability": "x",
        "SCHILY.xattr.user.note": "kept",
    }
    into((member, content))

    assert ["user.note"] == os.listxattr(layer / "f")


def test_a_bomb_is_no_layer(layer, into):
    packed = gzip.compress(archive(entry("zeros", content=bytes(8 * 1024**2))).read())

    assert len(packed) < 20_000
    with pytest.raises(archives.UnfitError, match="larger than 4 MiB"):
        into(io.BytesIO(packed), max_bytes=4 * 1024**2)


def test_a_sparse_bomb_is_no_layer(layer, into):
    # 2^40 bytes that are one hole: `GNU.sparse` 0.1 in a pax header.
    member, content = entry("hole", content=b"x")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}

    with pytest.raises(archives.UnfitError, match="larger than"):
        into((member, content))


def test_a_header_that_wants_all_memory_is_refused(layer, into):
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 8 * 1024**3
    told = io.BytesIO(member.tobuf() + bytes(1024))

    with pytest.raises(archives.UnfitError):
        into(told)


def test_directories_that_are_too_deep_are_refused(layer, into):
    with pytest.raises(archives.UnfitError, match="deep"):
        into(entry("/".join(["d"] * 300), content=b"1"))


@pytest.mark.parametrize("cut", [300, 700, 1500])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstd.compress], ids=["tar", "gz", "zstd"])
def test_an_archive_that_ends_too_early_is_damaged(layer, into, cut, packed):
    whole = packed(archive(entry("a", content=os.urandom(4000)), entry("b")).read())

    with pytest.raises(archives.UnfitError):
        into(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("text", [b"\0" * 100, b"no archive at all" * 100, b"\x1f\x8bnot gzip"])
def test_data_that_is_no_archive_is_refused(layer, into, text):
    with pytest.raises(archives.UnfitError):
        into(io.BytesIO(text))


def test_a_full_disk_is_an_error_of_the_disk(layer, into, monkeypatch):
    monkeypatch.setattr(unpack, "LEFT_FREE_BYTES", 2**62)
    monkeypatch.setattr(unpack, "LOOK_EVERY_BYTES", 1024)

    with pytest.raises(OSError, match="No space left"):
        into(entry("a", content=bytes(4096)))
