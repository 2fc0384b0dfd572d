"""Tests ask about processes and free ports where the races of such questions are thought of."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
#: A text that no test has -> the file with what the test needs.
WRONG = {
    r"psutil\.pid_exists\(": "tests/processes.py",  # it is true of a zombie
    r"\b_free_port\(|create_server\(\(.*, 0\)\) as (free|probe)": "tests/ports.py",  # the next who asks gets it too
    r"\.rglob\(\"\*\"\)": "tests/trees.py",  # a directory goes between its name and its list
}


def test_tests_ask_where_a_race_is_no_fault():
    found = {
        f"{path.relative_to(TESTS).as_posix()}:{number}: use {better}"
        for path in sorted(TESTS.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for pattern, better in WRONG.items()
        if path != Path(__file__) and re.search(pattern, line)
    }

    assert set() == found
