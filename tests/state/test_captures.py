"""Captured requests on disk: private, bounded, gone after a day."""

import dataclasses
import os
import uuid

import pytest

from homeport.contract.captured import KEPT_S, Captured, Message
from homeport.contract.scope import Scope
from homeport.state.captures import Captures
from homeport.state.scope import MAIN

THEIRS = Scope("acme", "main")


def captured(at: float = 1.0, body: bytes = b"", **changes) -> Captured:
    message = Message(body=body)
    fields = {"id": str(uuid.uuid4()), "app": "shop", "tag": "web", "method": "GET", "target": "/"}
    return Captured(
        **{**fields, "at": at, "request": message, "status": 200, "response": message, **changes}
    )


@pytest.fixture
def kept(tmp_path):
    return Captures(tmp_path / "captures")


def test_a_request_is_found_in_its_environment_alone(kept, tmp_path):
    capture = captured(body=b"\xff\x00")
    assert kept.add(MAIN, capture)

    assert capture == kept.find(MAIN, capture.id)
    assert kept.find(THEIRS, capture.id) is None
    assert ([capture], []) == (kept.every(MAIN), kept.every(THEIRS))
    (path,) = tmp_path.rglob("*.json")
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


@pytest.mark.parametrize(
    "wrong", ["", "x", "../../etc/passwd", "A" * 36, "8f14e45f-ceea-467f-a9c1-2b3c4d5e6f70\n"]
)
def test_an_id_is_no_path(kept, tmp_path, wrong):
    assert not kept.add(MAIN, captured(id=wrong))
    assert kept.find(MAIN, wrong) is None
    assert [] == list(tmp_path.rglob("*.json"))


def test_the_first_with_an_id_stays(kept):
    capture = captured()
    kept.add(MAIN, capture)

    assert not kept.add(MAIN, dataclasses.replace(capture, app="other"))
    assert "shop" == kept.find(MAIN, capture.id).app


def test_the_oldest_go_when_there_is_no_room(tmp_path):
    kept = Captures(tmp_path, cap_bytes=4000)
    ids = []
    for number in range(5):
        capture = captured(at=number, body=b"x" * 300)
        assert kept.add(MAIN, capture)
        path = kept._path(MAIN, capture.id)
        os.utime(path, (path.stat().st_mtime - 100 + number,) * 2)
        ids.append(capture.id)
    left = [capture.id for capture in kept.every(MAIN)]

    assert 0 < len(left) < 5
    assert ids[-len(left) :] == left
    assert not kept.add(MAIN, captured(body=b"x" * 4000))
    assert left == [capture.id for capture in kept.every(MAIN)]


@pytest.mark.parametrize("age_s", [KEPT_S + 1, -KEPT_S - 1])
def test_after_a_day_it_is_gone_also_if_the_clock_was_wrong(tmp_path, age_s):
    kept = Captures(tmp_path)
    capture, other = captured(), captured()
    kept.add(MAIN, capture)
    kept.add(MAIN, other)
    path = kept._path(MAIN, capture.id)
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)

    assert kept.find(MAIN, capture.id) is None
    kept.sweep()
    assert not path.exists()
    assert [other] == kept.every(MAIN)


def test_a_file_that_is_damaged_is_told_of_and_left_out(kept, caplog):
    capture = captured()
    kept.add(MAIN, capture)
    kept._path(MAIN, capture.id).write_text("{")

    assert [] == kept.every(MAIN)
    assert "cannot be read" in caplog.text


def test_captures_of_one_app_or_one_environment_can_be_deleted(kept, tmp_path):
    shop, blog, theirs = captured(), captured(app="blog"), captured()
    for scope, capture in ((MAIN, shop), (MAIN, blog), (THEIRS, theirs)):
        kept.add(scope, capture)
    kept.remove_app(MAIN, "shop")
    assert ([blog], [theirs]) == (kept.every(MAIN), kept.every(THEIRS))
    kept.remove(MAIN)
    kept.remove(THEIRS)

    assert [] == list(tmp_path.rglob("*.json"))
