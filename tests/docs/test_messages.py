"""The messages that Troubleshooting explains exist in today's code."""

import re
from pathlib import Path

import pytest

from tests.docs import messages

PAGE = (Path(__file__).parents[2] / "docs/guides/troubleshooting.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
ANSWERS = re.findall(r"^\| (\d{3}) \| (.+?) \| ", PAGE, re.MULTILINE)
NOT_OURS = {"ModuleNotFoundError", "Internal Server Error"}


@pytest.mark.parametrize("message", [each for each in HEADINGS if each not in NOT_OURS])
def test_an_explained_message_is_one_of_ours(message):
    assert messages.exists(message)


@pytest.mark.parametrize(("status", "text"), ANSWERS)
def test_an_explained_answer_is_one_of_ours(status, text):
    assert messages.exists(text)


def test_a_message_that_nobody_says_is_found_out():
    assert not messages.exists("the moon is … made of cheese")
    assert messages.exists("there is no secret `…`")
