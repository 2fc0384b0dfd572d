"""Options of `homeport run`, from a function's signature."""

import datetime as dt
from typing import Any, Literal, Optional

import modal
import pytest

from homeport.sdk.declare.arguments import Arguments


def every(
    text: str,
    count: int = 3,
    share: float = 0.5,
    dry_run: bool = False,
    when: dt.datetime | None = None,
    maybe: Optional[int] = None,  # noqa: UP045 - as many scripts write it
    kind: Literal["a", "b"] = "a",
    size: Literal[1, 2] = 1,
    anything: Any = None,
    plain="x",
    number=7,
):
    """Do everything."""


def read(function, *words: str):
    positional, named, _ = Arguments("homeport run x.py", function).read(words)
    return positional, named


def test_each_type_has_its_option():
    words = (
        "--text=t --count -2 --share 1e3 --dry-run --when 2026-01-31T12:00:00 --maybe 4 --kind b --size 2 "
        "--anything 5 --plain y --number 8"
    )

    assert read(every, *words.split()) == (
        [],
        {
            "text": "t",
            "count": -2,
            "share": 1000.0,
            "dry_run": True,
            "when": dt.datetime(2026, 1, 31, 12),  # noqa: DTZ001 - as it was written
            "maybe": 4,
            "kind": "b",
            "size": 2,
            "anything": "5",
            "plain": "y",
            "number": 8,
        },
    )


def test_an_option_that_is_left_out_keeps_the_functions_own_default():
    assert read(every, "--text", "t") == ([], {"text": "t"})
    assert read(every, "--text", "t", "--no-dry-run") == ([], {"text": "t", "dry_run": False})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the following arguments are required: --text"),
        (["--text", "t", "--count", "many"], "invalid int value: 'many'"),
        (["--text", "t", "--when", "soon"], "'soon' is not a date such as 2026-01-31"),
        (["--text", "t", "--kind", "c"], "invalid choice: 'c'"),
        (["--text", "t", "--cou", "1"], "unrecognized arguments: --cou 1"),
        (["--text", "t", "more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_words_are_a_usage_error(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        read(every, *words)

    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_help_has_the_words_of_the_function_and_each_option(capsys):
    with pytest.raises(SystemExit) as ended:
        read(every, "--help")

    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Do everything." in told
    assert "--dry-run, --no-dry-run" in told
    assert "--count NUMBER" in told


def test_a_lone_star_takes_all_words_as_they_are():
    def raw(*words):
        """Take all words."""

    assert read(raw, "a", "--b", "-c") == (["a", "--b", "-c"], {})
    assert read(raw) == ([], {})


def test_a_parameter_that_has_only_a_place_gets_its_value():
    def placed(first: int, second: str = "s", /, third: int = 0):
        """Have places."""

    assert read(placed, "--first", "1", "--third", "3") == ([1, "s"], {"third": 3})


def test_a_parameter_of_a_class_is_an_option_which_is_needed_if_it_has_no_default(capsys):
    class Model:
        size: int = modal.parameter()
        name: str = modal.parameter(default="x")

        @modal.method()
        def run(self, times: int):
            """Run."""

    model = modal.App().cls()(_at_the_top(Model))
    options = Arguments("homeport run x.py", model.partials["run"].raw, cls=model)

    assert ([], {"times": 1}, {"size": 2}) == options.read(["--size", "2", "--times", "1"])
    with pytest.raises(SystemExit):
        options.read(["--times", "1"])
    assert "required: --size" in capsys.readouterr().err


def _at_the_top(cls):
    cls.__qualname__ = cls.__name__
    return cls


def rest(first: int, *others):
    """Take others too."""


def named(**options):
    """Take names."""


def listed(items: list[str]):
    """Take a list."""


def mixed(kind: Literal["a", 1]):
    """Take a mixed literal."""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (rest, "it can have no other parameter"),
        (named, "`**options` cannot be given"),
        (listed, "the parameter `items` has the annotation `list[str]`"),
        (mixed, "the parameter `kind` has the annotation"),
    ],
)
def test_a_signature_without_options_is_a_usage_error(capsys, function, told):
    with pytest.raises(SystemExit) as ended:
        Arguments("homeport run x.py", function)

    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
