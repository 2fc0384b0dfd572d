"""The modules that a file imports only once it runs are found by what Python reads in its text."""

import warnings

import pytest

from homeport.sdk.files.imports import imported_later


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes files below a root and returns the root."""

    def write(packages=(), **files: str):
        for name, text in {**files, **{f"{name}/__init__": "" for name in packages}}.items():
            path = tmp_path / f"{name.replace('__', '/') if name in files else name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def later(root, script="script"):
    """Return the modules that the script imports later, as paths below the root."""
    found = imported_later([root / f"{script}.py"], root)
    return {path.relative_to(root).as_posix() for path in found}


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import later\n",
        "def f():\n\timport later as other\n",
        "def f(): import later\n",
        "def f():\n    import json, later\n",
        "def f():\n    from later import one, two\n",
        "def f():\n    from later import (  # ruff: noqa\n        one,  # the first\n        two,\n    )\n",
        "def f():\n    from \\\n        later import one\n",
        "def f():\n    x = 1; import later\n",
        "async def f():\n    with open('x'):\n        import later\n",
        "class A:\n    def f(self):\n        import later\n",
        "try:\n    from later import *\nexcept ImportError:\n    pass\n",
    ],
)
def test_an_import_below_the_top_is_found_however_it_is_written(tree, text):
    assert {"later.py"} == later(tree(script=text, later="x = 1\n"))


@pytest.mark.parametrize(
    "text",
    [
        "import later\n",  # this import runs while the script is loaded
        '"""\n    import later\n"""\n',
        "def f():\n    # import later\n    pass\n",
        'def f():\n    return "\\\n    import later"\n',
        "def f():\n    important = later\n",
        "def f():\n    import latest\n",
        "def f():\n    from .. import later\n",  # above the root
        "def f(:\n    import later\n",  # not Python
        "def f():\n    import later\0\n",
    ],
)
def test_a_name_that_is_no_import_or_has_run_is_not_found(tree, text):
    assert set() == later(tree(script=text, later="x = 1\n"))


def test_a_module_that_is_imported_later_brings_what_it_imports_at_its_own_top(tree):
    root = tree(
        script="def f():\n    import shop.prices\n",
        packages=["shop"],
        shop__prices="from . import tax\nfrom .rates import table as t\nimport money\n",
        shop__tax="",
        shop__rates="def f():\n    import script\n",
        money="import json\n",
        other="",
    )

    assert {
        "shop/__init__.py",
        "shop/prices.py",
        "shop/tax.py",
        "shop/rates.py",
        "money.py",
        "script.py",
    } == later(root)


def test_packages_without_an_init_and_with_a_module_of_the_same_name(tree):
    root = tree(
        script="def f():\n    from a.b import c\n    import d.e\n",
        a__b__c="",
        packages=["d"],
        d__e="",
    )
    (root / "d.py").write_text("")

    assert {"a/b/c.py", "d/__init__.py", "d/e.py"} == later(root)


def test_an_encoding_is_obeyed_and_no_warning_is_shown(tree):
    root = tree(later="")
    text = '# coding: latin-1\ndef f():\n    x = "\xe9\\d"\n    import later\n'
    (root / "script.py").write_bytes(text.encode("latin-1"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert {"later.py"} == later(root)


def test_a_file_that_cannot_be_read_is_left_to_the_container(tree):
    root = tree(script="def f():\n    import later\n")
    (root / "later.py").symlink_to(root / "nowhere.py")

    assert set() == later(root)
    assert set() == imported_later([root / "none.py"], root)
