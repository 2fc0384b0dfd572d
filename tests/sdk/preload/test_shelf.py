"""Preloaded modules: what a script sees of them before and after it imports them."""

import pytest


def test_a_module_cannot_be_seen_before_it_is_imported_and_is_the_preloaded_one_then(box):
    box.install(a="import a_inner, time; AT = time.monotonic_ns()", a_inner="")
    printed = box.run(
        ["a"],
        """
        import importlib.util, time
        began = time.monotonic_ns()
        before = [name in sys.modules for name in ("a", "a_inner")]
        spec = importlib.util.find_spec("a")
        import a
        say([before, spec.origin == a.__file__, a.AT < began, "a_inner" in sys.modules,
             a.__spec__.origin == a.__file__, type(a.__loader__).__name__, importlib.reload(a) is a])
        """,
    )

    assert [[False, False], True, True, True, True, "SourceFileLoader", True] == printed


def test_a_module_comes_with_what_its_own_import_had_brought_and_with_nothing_else(box):
    box.install(first="import shared, first_only", second="import shared", shared="", first_only="")
    printed = box.run(
        ["first", "second"],
        """
        import second
        say([name in sys.modules for name in ("second", "shared", "first", "first_only")])
        """,
    )

    assert [True, True, False, False] == printed


def test_a_submodule_is_no_attribute_of_its_package_before_it_is_imported(box):
    box.install(p="", p__sub="import p.other", p__other="", user="import p.sub")
    printed = box.run(
        ["user"],
        """
        import p
        before = [hasattr(p, "sub"), "p.sub" in sys.modules]
        import user
        say([*before, p.sub is sys.modules["p.sub"], hasattr(p, "other")])
        """,
    )

    assert [False, False, True, True] == printed


def test_modules_that_import_each_other_come_together(box):
    box.install(a="import b\nX = 1", b="import a\ndef x(): return a.X")
    printed = box.run(["a"], "import b; say([b.x(), 'a' in sys.modules])")

    assert [1, True] == printed


def test_the_standard_library_is_as_hidden_as_the_rest(box):
    box.install(a="import decimal, importlib.metadata")
    printed = box.run(
        ["a"],
        """
        before = ["decimal" in sys.modules, hasattr(importlib, "metadata")]
        import a
        say([before, "decimal" in sys.modules, hasattr(importlib, "metadata")])
        """,
    )

    assert [[False, False], True, True] == printed


def test_a_variable_that_the_script_changes_above_an_import_counts(box):
    box.install(a="import b", b="import os; HOME = os.environ.get('HUB', 'default')")
    script = "import os; os.environ['HUB'] = '/models'\nimport a\nsay('imported')"

    assert {"changed": "HUB was changed", "modules": ["a", "b"]} == box.run(["a"], script)
    assert "imported" == box.run(["a"], script, HUB="/models")


@pytest.mark.parametrize(
    "look",
    [
        "os.environ['V']",
        "os.getenv('V')",
        "'V' in os.environ",
        "os.environb.get(b'V')",
        "os.environ.setdefault('V', '1')",
    ],
)
def test_every_way_to_look_at_a_variable_is_seen(box, look):
    box.install(a=f"import os\ntry: X = {look}\nexcept KeyError: pass")

    assert "V was changed" == box.run(["a"], "os.environ['V'] = '2'\nimport a")["changed"]
    assert "other" == box.run(["a"], "os.environ['OTHER'] = '2'\nimport a\nsay('other')")


def test_machine_code_is_taken_to_read_the_variables_of_its_kind(box):
    script = "os.environ['OMP_NUM_THREADS'] = '1'\nimport numpy\nsay('imported')"

    assert "OMP_NUM_THREADS was changed" == box.run(["numpy"], script)["changed"]
    assert "imported" == box.run(
        ["numpy"], "os.environ['OTHER'] = '1'\nimport numpy\nsay('imported')"
    )


def test_a_file_of_the_user_s_wins_over_a_preloaded_module(box):
    box.install(twin="WHO = 'installed'", needs="import twin\nWHO = twin.WHO")
    (box.source / "twin.py").write_text("WHO = 'local'")

    # Modules of the user are not run before the script.
    assert "local" == box.run(["twin"], "import twin; say(twin.WHO)")
    assert {"unsafe": "`twin` is the user's own"} != box.run(["twin"], "import twin; say(twin.WHO)")


@pytest.mark.parametrize("entry", ["sys.path.insert(0, other)", "sys.path.append(other)"])
def test_a_directory_that_the_script_adds_counts_where_it_has_the_module(box, entry, tmp_path):
    box.install(a="import b", b="WHO = 'installed'")
    (tmp_path / "other").mkdir()
    script = f"other = {str(tmp_path / 'other')!r}\n{entry}\nimport a, b; say(b.WHO)"
    harmless = box.run(["a"], script)
    (tmp_path / "other" / "b.py").write_text("WHO = 'other'")
    printed = box.run(["a"], script)

    assert "installed" == harmless
    if "insert" in entry:
        assert "`b` would be found elsewhere: `sys.path` has changed" == printed["changed"]
    else:
        assert "installed" == printed


def test_a_module_that_was_missed_and_is_there_now_counts(box, tmp_path):
    box.install(a="try: import fast\nexcept ImportError: fast = None")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fast.py").write_text("")
    script = f"sys.path.append({str(tmp_path / 'other')!r})\nimport a; say(a.fast)"

    assert (
        "`fast` would be found elsewhere: `sys.path` has changed"
        == box.run(["a"], script)["changed"]
    )


def test_a_finder_of_the_user_s_that_is_first_wins(box):
    box.install(a="WHO = 'installed'")
    printed = box.run(
        ["a"],
        """
        import importlib.abc, importlib.machinery
        class Mine(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path=None, target=None):
                return importlib.machinery.ModuleSpec(name, self) if name == "a" else None
            def exec_module(self, module): module.WHO = "mine"
        sys.meta_path.insert(0, Mine())
        import a
        say(a.WHO)
        """,
    )

    assert "mine" == printed


def test_a_stub_in_place_of_a_module_counts(box):
    box.install(a="import b", b="")
    printed = box.run(["a"], "import types; sys.modules['b'] = types.ModuleType('b')\nimport a")

    assert "there is another `b`" == printed["changed"]


def test_a_logger_that_the_script_asked_for_first_is_the_module_s_own(box):
    box.install(a="import logging; log = logging.getLogger('a.inner')")
    printed = box.run(
        ["a"],
        """
        mine = logging.getLogger("a.inner")
        mine.setLevel(logging.ERROR)
        import a
        mine.propagate = False
        say([a.log.level, a.log.propagate, logging.getLogger("a.inner") is mine])
        """,
    )

    assert [40, False, True] == printed


def test_a_logger_that_the_script_asked_for_first_and_an_import_has_configured_counts(box):
    box.install(a="import logging; logging.getLogger('a.inner').setLevel(logging.ERROR)")
    printed = box.run(["a"], "import logging; logging.getLogger('a.inner')\nimport a")

    assert "the logger a.inner is there already" == printed["changed"]


def test_loggers_of_what_is_not_imported_are_not_there_to_be_disabled(box):
    box.install(a="import logging; log = logging.getLogger('a')")
    script = """
        import logging.config
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
        import a
        say(a.log.disabled)
    """
    printed = box.run(["a"], script)

    assert printed is False


def test_a_hidden_warning_counts_where_the_script_has_asked_to_see_it(box):
    box.install(a="import warnings; warnings.warn('old', DeprecationWarning)")

    assert "imported" == box.run(["a"], "import a; say('imported')")
    printed = box.run(["a"], "warnings.simplefilter('always')\nimport a")
    assert "the warning filters have changed" == printed["changed"]


def test_the_working_directory_counts_where_an_import_asks_for_it(box):
    box.install(a="import os; HERE = os.getcwd()", b="")

    assert "the working directory has changed" == box.run(["a"], "import a")["changed"]
    assert "imported" == box.run(["b"], "os.chdir('/')\nimport b; say('imported')")


def test_a_file_of_the_users_counts_where_an_import_has_opened_it(box):
    """A later version of the user's files has another one there."""
    box.install(a="open('notes.txt', 'a').close()", b="open('/dev/null').close()")

    for name, expected in (
        ("a", "an import has read a file of another version"),
        ("b", "imported"),
    ):
        script = f"shelf.moves('/nowhere')\nimport {name}; say('imported')"
        printed = box.run([name], script)
        assert expected == (printed["changed"] if isinstance(printed, dict) else printed)


def test_a_file_that_was_written_anew_or_a_package_that_came_makes_the_shelf_stale(box):
    box.install(a="V = 1")
    touch = f"open({str(box.site / 'a.py')!r}, 'a').write('#')"
    install = f"os.mkdir({str(box.site / 'x-2.0.dist-info')!r})"

    assert "" == box.run(["a"], "say(shelf.stale())")
    assert f"`{box.site / 'a.py'}` has changed" == box.run(["a"], f"{touch}; say(shelf.stale())")
    printed = box.run(["a"], f"{install}; say(shelf.stale())")
    assert f"something was installed in `{box.site}`, or removed" == printed


def test_the_variables_that_a_fork_must_have_are_known_before_it(box):
    box.install(
        a="import os; X = os.environ.get('SECRET'); os.environ['OWN'] = '1'; Y = os.environ['OWN']"
    )
    printed = box.run(
        ["a"],
        "say([shelf.unlike({'SECRET': 's'}), shelf.unlike({'SECRET': 't'}), shelf.unlike({'SECRET': 's', 'Z': '1'})])",
        SECRET="s",
    )

    assert ["", "SECRET is another one", ""] == printed


def test_once_requests_are_inside_what_differs_is_imported_from_its_file(box):
    box.install(a="import os; V = os.environ.get('V')")
    script = """
        heard = []
        shelf.changed = lambda reason, modules: heard.append(reason)
        os.environ["V"] = "late"
        import a
        say([a.V, heard])
    """
    printed = box.run(["a"], script)

    assert ["late", ["V was changed"]] == printed
