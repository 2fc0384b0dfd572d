"""A secret is hidden in each form in which a program may print it."""

import base64
import hashlib
import html
import json
import shlex
import subprocess
import textwrap
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homeport.hidden import HIDDEN, Hider

KEY = """-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKB
kq+/Zm9v
ab
-----END PRIVATE KEY-----
"""
ACCOUNT = json.dumps({"type": "service", "key": "s3cr3t/+=", "n": 1}, indent=2)
ODD = "p'a\"s\\s w&<o>rd/ü%"


def shown(value: str, text: str) -> str:
    """Return the output after secrets are hidden."""
    return "\n".join(Hider([value]).hide_all(text.split("\n")))


@pytest.mark.parametrize(
    ("value", "text", "left"),
    [
        ("hush-hush", "have hush-hush, twice: hush-hush", "have ***, twice: ***"),
        (" hush-hush\n", "have hush-hush!", "have ***!"),
        ("abc", "abcdef", "abcdef"),  # too short to be distinguished from other words
        ("long-and-longer", "long-and-longer", "***"),
        (KEY, KEY.rstrip("\n"), "***\n***\n***\n***\n***"),
        (KEY, "  ab  ", "***"),  # a short line of it that stands alone
        (KEY, "about", "about"),
        (KEY, "key: kq+/Zm9v.", "key: ***."),
        (KEY.replace("\n", "\r\n"), KEY.rstrip("\n"), "***\n***\n***\n***\n***"),
        (ACCOUNT, "read s3cr3t", "read s3cr3t"),  # a part of a line is no line
        ("ab\udcffcd", "x ab\udcffcd", "x ***"),  # a byte of the environment that is not UTF-8
        ("ab\ncd", "x=ab\ncd-y", "x=ab\n***-y"),
        ("ab\ncd", "x=ab\n\n  cd-y", "x=ab\n\n  ***-y"),
        ("ab\ncd\nef", "x=ab\ncd\nef-y", "x=ab\n***\n***-y"),
        ("ab\ncd", "x=ab\ny=cd\ncd-y", "x=ab\ny=cd\ncd-y"),  # another line is between them
        (
            "0.1\r2.3\rx",
            "2.3",
            "***",
        ),  # the output has only the last state of a progress bar's line
    ],
)
def test_the_output_is_shown_without_the_secret(value, text, left):
    assert left == shown(value, text)


@pytest.mark.parametrize("value", [KEY, ACCOUNT, ODD, "plain-word-0123456789"])
@pytest.mark.parametrize(
    "written",
    [
        str,
        str.strip,
        repr,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps({"a": [value]}, indent=1),
        lambda value: str({"a": value}),
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: urllib.parse.urlencode({"token": value}),
        html.escape,
        shlex.quote,
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: f"https://user:{urllib.parse.quote(value, safe='')}@host/",
    ],
)
def test_no_part_of_a_value_is_seen_however_it_is_written(value, written):
    left = shown(value, f"before {written(value)} after")

    assert HIDDEN in left
    for line in value.splitlines():
        for part in (line[i : i + 8] for i in range(max(1, len(line) - 7))):
            assert len(part.strip()) < 8 or part not in left, left


@pytest.mark.parametrize("width", [10, 20, 33, 60])
def test_a_value_that_was_wrapped_is_hidden_with_its_rest(width):
    value = hashlib.sha512(b"x").hexdigest() + "'\"/+="
    left = shown(value, textwrap.fill(f"a={value} end", width, break_on_hyphens=False))

    for start in range(len(value) - 10):
        assert value[start : start + 10] not in left


def test_a_shell_that_traces_its_commands_shows_no_value():
    done = subprocess.run(
        ["/bin/sh", "-xc", 'test "$TOKEN" = other; printf "%s" "$TOKEN" | sed s/x/x/'],
        env={"TOKEN": ODD, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    left = shown(ODD, done.stderr + done.stdout)

    assert "w&<o>rd" not in left


@given(
    # A line of `***` looks the same when it is hidden.
    st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=8, max_size=60),
    st.text(max_size=20),
    st.text(max_size=20),
)
@example("000\n000\x85", "0", "0")  # two short lines; `\x85` ends no line of an output
@example("00\x8500\n000", "x", "y")
@example("0\n\n 0    ", "x", "y")
def test_a_value_is_never_seen_between_any_words(value, before, after):
    if len(value.strip()) < 4:
        return
    left = shown(value, f"{before}{value}{after}")

    assert value not in left or value in f"{before}{HIDDEN}{after}"
