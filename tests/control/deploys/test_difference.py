"""What differs between two versions: a table for the settings, and real contents for the files."""

import dataclasses
import hashlib

import pytest

from homeport.contract.image import Image, Step
from homeport.contract.manifest import (
    FunctionSpec,
    Manifest,
    SecretRef,
    SourceFile,
    VolumeMount,
    WebKind,
    WebMethod,
)
from homeport.control.deploys import difference
from homeport.control.deploys.difference import MOST_DIFF, MOST_FILES

WEB = WebMethod(tag="f", attribute="f", kind=WebKind.FASTAPI, where="a.py:1")
F = FunctionSpec(name="f", module="m", qualname="f", web=(WEB,), where="a.py:2")


class Blobs:
    """Contents by their hashes."""

    def __init__(self) -> None:
        self.all: dict[str, bytes] = {}

    def file(self, path: str, content: bytes, mode: int = 0o644) -> SourceFile:
        sha256 = hashlib.sha256(content).hexdigest()
        self.all[sha256] = content
        return SourceFile(path=path, sha256=sha256, size_bytes=len(content), mode=mode)


def manifest(*functions: FunctionSpec, **more) -> Manifest:
    return Manifest(app_name="shop", functions=functions, **more)


def image(*steps: Step) -> FunctionSpec:
    return dataclasses.replace(F, image=Image(steps=steps))


def env(**variables: str) -> Step:
    return Step(name="env", args={"vars": variables})


PIP = Step(name="pip_install", args={"packages": ["flask"]}, where="a.py:3")


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (F, F, []),
        (F, dataclasses.replace(F, where="b.py:9"), []),
        (F, dataclasses.replace(F, timeout_s=7.0), [("timeout_s", None, "7.0")]),
        (
            dataclasses.replace(F, cpu=(1.0, 2.0)),
            dataclasses.replace(F, cpu=(2.0, None), gpu=("T4",)),
            [("cpu", "[1.0, 2.0]", "[2.0, null]"), ("gpu", None, '["T4"]')],
        ),
        (
            F,
            dataclasses.replace(F, web=(dataclasses.replace(WEB, label="x", where="c.py:1"),)),
            [("web f label", None, "x")],
        ),
        (
            image(PIP),
            image(PIP, Step(name="apt_install", args={"packages": ["ffmpeg"]})),
            [
                (
                    "image",
                    'pip_install {"packages": ["flask"]}',
                    'pip_install {"packages": ["flask"]}\napt_install {"packages": ["ffmpeg"]}',
                )
            ],
        ),
        (image(PIP), image(dataclasses.replace(PIP, where="z.py:1")), []),
        (image(env(KEY="hunter2")), image(env(KEY="hunter3")), []),
        (
            image(env(KEY="hunter2")),
            image(env(KEY="hunter2", MORE="hunter4")),
            [("image", 'env {"vars": ["KEY"]}', 'env {"vars": ["KEY", "MORE"]}')],
        ),
        (
            image(),
            image(Step(name="pip_install", args={"index_url": "https://me:hunter5@pypi.test/x"})),
            [("image", None, 'pip_install {"index_url": "https://…@pypi.test/x"}')],
        ),
        (
            dataclasses.replace(F, secrets=(SecretRef(name="old-print/f/0"),)),
            dataclasses.replace(F, secrets=(SecretRef(name="new-print/f/0"), SecretRef(name="db"))),
            [("secrets", "(in the script)", "(in the script), db")],
        ),
        (
            dataclasses.replace(F, secrets=(SecretRef(values={"KEY": "hunter6"}),)),
            F,
            [("secrets", "(in the script)", None)],
        ),
        (
            F,
            dataclasses.replace(
                F, volumes=(VolumeMount(path="/m", name="models", read_only=True, key="k"),)
            ),
            [("volume /m", None, "models (read-only)")],
        ),
    ],
)
def test_settings_that_differ_are_listed(before, after, wanted):
    changes = difference.settings(manifest(before), manifest(after), images=True)

    assert wanted == [(change.setting, change.before, change.after) for change in changes]
    assert {"f"} >= {change.function for change in changes}
    assert "hunter" not in str(changes)


def test_functions_and_tags_come_and_go():
    g = FunctionSpec(name="g", module="m", qualname="g")
    changes = difference.settings(manifest(F), manifest(F, g, tags={"team": "x"}), images=True)

    rows = [(c.function, c.setting, c.before, c.after) for c in changes]
    assert ("", "tag team", None, "x") in rows
    assert ("g", "module", None, "m") in rows
    assert not any(function == "f" for function, *_ in rows)


def test_without_images_only_the_names_of_their_steps_are_told():
    changes = difference.settings(manifest(image(PIP)), manifest(image(PIP, PIP)), images=False)

    assert [("pip_install", "pip_install\npip_install")] == [
        (change.before, change.after) for change in changes
    ]
    other = Step(name="pip_install", args={"packages": ["django"]})
    assert () == difference.settings(manifest(image(PIP)), manifest(image(other)), images=False)


def test_files_come_go_and_change():
    blobs = Blobs()
    same = blobs.file("same.py", b"x")
    before = manifest(
        files=(same, blobs.file("a.py", b"one\ntwo\n"), blobs.file("gone.py", b"old\n"))
    )
    after = manifest(
        files=(
            same,
            blobs.file("a.py", b"one\n2\n"),
            blobs.file("new.py", b"new\n"),
        )
    )
    (changed, gone, new), left_out = difference.files(before, after, blobs.all.get)

    assert 0 == left_out
    assert ["--- a/a.py", "+++ b/a.py"] == changed.diff.split("\n")[:2]
    assert ["-two", "+2"] == [x for x in changed.diff.split("\n")[2:] if x[:1] in "+-"]
    assert (None, 4) == (gone.after, gone.before.size_bytes)
    assert "+++ /dev/null" in gone.diff
    assert (None, 4) == (new.before, new.after.size_bytes)
    assert "+new" in new.diff


@pytest.mark.parametrize(
    "content", [b"\0binary", b"\xff\xfe", b"x" * (256 * 1024 + 1), b"\n" * 6000, None]
)
def test_a_file_that_is_no_text_or_too_large_or_gone_is_described_by_size_and_hash(content):
    blobs = Blobs()
    file = blobs.file("a", content or b"?")
    if content is None:
        blobs.all.clear()
    ((change,), _) = difference.files(manifest(), manifest(files=(file,)), blobs.all.get)

    assert ("", file.sha256) == (change.diff, change.after.sha256)


def test_a_mode_is_a_change_and_other_bits_of_it_are_not():
    blobs = Blobs()
    before = manifest(files=(blobs.file("run", b"x"), blobs.file("b", b"x", 0o600)))
    after = manifest(files=(blobs.file("run", b"x", 0o755), blobs.file("b", b"x", 0o644)))
    ((change,), _) = difference.files(before, after, blobs.all.get)

    assert ("run", "", False, True) == (
        change.path,
        change.diff,
        change.before.executable,
        change.after.executable,
    )


def test_no_text_is_read_for_who_may_not_see_it():
    blobs = Blobs()
    file = blobs.file("a.py", b"secret")
    ((change,), _) = difference.files(manifest(), manifest(files=(file,)), None)

    assert ("a.py", "") == (change.path, change.diff)


def test_an_answer_is_never_too_large():
    blobs = Blobs()
    long = "\n".join(f"{number:060}" for number in range(3_000)).encode()
    files = tuple(blobs.file(f"{number:04}.py", long) for number in range(MOST_FILES + 7))
    files_shown, left_out = difference.files(manifest(), manifest(files=files), blobs.all.get)

    assert (MOST_FILES, 7) == (len(files_shown), left_out)
    assert len(files_shown[0].diff) <= MOST_DIFF + 2
    assert sum(len(file.diff) for file in files_shown) <= difference.MOST_DIFFS + MOST_DIFF + 2
    assert files_shown[-1].diff == ""
