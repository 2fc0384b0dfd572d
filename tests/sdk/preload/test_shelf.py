"""Preloaded modules: what a script sees of them before and after it imports them."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HARNESS = """
import importlib, json, os, sys, warnings, logging
sys.path.insert(0, {site!r})
from homeport.sdk.preload.recorder import Recorder
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf

shelf, unsafe = Shelf(), ""
recorder = Recorder(shelf, source={source!r}, forks={forks})
for name in {preload!r}:
    unsafe = unsafe or recorder.load(name)
shelf.settle({source!r})
shelf.prepare()
shelf.repeat, shelf.looks = repeat, lambda name: None

def say(value):
    print(json.dumps(value), flush=True)
    os._exit(0)

shelf.changed = lambda reason, modules: say({{"changed": reason, "modules": sorted(modules)}})
if unsafe:
    say({{"unsafe": unsafe}})
sys.path.insert(0, {source!r})
os.chdir({source!r})
shelf.at_home({source!r})
"""


@pytest.fixture
def box(tmp_path):
    """A folder of packages, a folder of the user's, and a process that has preloaded some."""
    return Box(tmp_path)


class Box:
    """See `box`."""

    def __init__(self, root):
        self.site, self.source = root / "site", root / "source"
        self.site.mkdir()
        self.source.mkdir()

    def install(self, **modules):
        """`a__b` is the module `a.b`; a name that others begin with is a package."""
        for name, text in modules.items():
            parts = name.split("__")
            package = any(other.startswith(f"{name}__") for other in modules)
            folder = self.site.joinpath(*parts[: None if package else -1])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / ("__init__.py" if package else f"{parts[-1]}.py")
            path.write_text(textwrap.dedent(text))

    def run(self, preload, script, *, forks=False, **environ):
        """Run a script after the modules were preloaded; return what it prints."""
        before = HARNESS.format(
            site=str(self.site), source=str(self.source), preload=preload, forks=forks
        )
        with open(self.site.parent / "output", "w+") as output:  # a file, as zygotes print to one
            subprocess.run(
                [sys.executable, "-c", before + textwrap.dedent(script)],
                stdout=output,
                stderr=output,
                timeout=60,
                cwd=self.site.parent,
                env={"PATH": os.environ["PATH"], **environ},
                check=False,
            )
            output.seek(0)
            told = output.read()
        try:
            return json.loads(told.splitlines()[-1])
        except (ValueError, IndexError):
            raise AssertionError(told) from None


def test_a_module_cannot_be_seen_before_it_is_imported_and_is_the_preloaded_one_then(box):
    box.install(a="import a_inner, time; AT = time.monotonic_ns()", a_inner="")
    told = box.run(
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

    assert [[False, False], True, True, True, True, "SourceFileLoader", True] == told


def test_a_module_comes_with_what_its_own_import_had_brought_and_with_nothing_else(box):
    box.install(first="import shared, first_only", second="import shared", shared="", first_only="")
    told = box.run(
        ["first", "second"],
        """
        import second
        say([name in sys.modules for name in ("second", "shared", "first", "first_only")])
        """,
    )

    assert [True, True, False, False] == told


def test_a_module_that_another_one_makes_comes_with_it_alone(box):
    box.install(maker="import sys, types; sys.modules['made'] = types.ModuleType('made')", other="")
    told = box.run(
        ["maker", "other"],
        """
        before = ["made" in sys.modules]
        import other
        before += ["made" in sys.modules]
        import maker, made
        say([before, made is sys.modules["made"]])
        """,
    )

    assert [[False, False], True] == told


def test_a_submodule_is_no_attribute_of_its_package_before_it_is_imported(box):
    box.install(p="", p__sub="import p.other", p__other="", user="import p.sub")
    told = box.run(
        ["user"],
        """
        import p
        before = [hasattr(p, "sub"), "p.sub" in sys.modules]
        import user
        say([*before, p.sub is sys.modules["p.sub"], hasattr(p, "other")])
        """,
    )

    assert [False, False, True, True] == told


def test_modules_that_import_each_other_come_together(box):
    box.install(a="import b\nX = 1", b="import a\ndef x(): return a.X")
    told = box.run(["a"], "import b; say([b.x(), 'a' in sys.modules])")

    assert [1, True] == told


def test_the_standard_library_is_as_hidden_as_the_rest(box):
    box.install(a="import decimal, importlib.metadata")
    told = box.run(
        ["a"],
        """
        before = ["decimal" in sys.modules, hasattr(importlib, "metadata")]
        import a
        say([before, "decimal" in sys.modules, hasattr(importlib, "metadata")])
        """,
    )

    assert [[False, False], True, True] == told


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


UNSAFE = {
    "dict(os.environ)": "it reads all environment variables",
    "[name for name in os.environ]": "it reads all environment variables",
    "os.environ.copy()": "it reads all environment variables",
    "import logging; logging.basicConfig(level=10)": "it changes logging",
    "import logging; logging.getLogger('there').setLevel(10)": "it changes logging",
    "import logging; logging.addLevelName(7, 'TRACE')": "it changes the levels of logging",
    "import socket; socket.setdefaulttimeout(1)": "it changes the sockets' timeout",
    "import warnings; warnings.resetwarnings()": "it changes the warning filters",
    "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)": "it changes signal handlers",
    "import mimetypes; mimetypes.types_map['.x'] = 'text/x'": "it changes what is in `mimetypes.types_map`",
    "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8')": "it changes the locale",
    "import decimal; decimal.getcontext().prec = 5": "it changes the decimal context",
    "import sys; sys.excepthook = print": "it changes `sys.excepthook`",
    "import sys; sys.path.append('/x')": "it changes `sys.path`",
    "import sys; sys.meta_path.append(None)": "it changes `sys.meta_path`",
    "import sys; sys.setrecursionlimit(5000)": "it changes a limit of the interpreter",
    "import threading; threading.excepthook = print": "it changes `threading.excepthook`",
    "os.chdir('/')": "it changes the working directory",
    "os.umask(0)": "it changes the umask or a limit",
    "import faulthandler; faulthandler.enable()": "it changes faulthandler",
    "import string; string.capwords = print": "it changes `string.capwords`",
    "import json; json.JSONEncoder.default = print": "it changes `json.encoder.JSONEncoder.default`",
    "import builtins; builtins.extra = 1": "it changes `builtins.extra`",
    "import asyncio; asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())": "it changes `asyncio.events.",
    "import gc; gc.disable()": "it changes the garbage collection",
    "print('hello')": "it prints while it is imported",
    "import warnings; warnings.warn('careful')": "it prints while it is imported",
    "PID = os.getpid()": "it keeps the process id",
    "import uuid; SESSION = uuid.uuid4()": "it draws random numbers while it is imported",
    "import secrets; TOKEN = secrets.token_hex()": "it draws random numbers while it is imported",
    "import random; random.seed(1)": "it draws random numbers while it is imported",
    "import random; R = random.Random(); X = R.random()": "it draws random numbers while it is imported",
    "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()": "it starts a thread",
    "import contextvars; contextvars.ContextVar('x').set(1)": "it changes context variables",
    "import other; other.value = 2": "it changes `other.value`",
}  # fmt: skip


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("text", UNSAFE)
def test_an_import_that_changes_the_process_is_not_preloaded(box, text, forks):
    box.install(
        a=f"import os\n{text}", other="import logging\nvalue = 1\nlogging.getLogger('there')"
    )
    preload = ["other", "a"] if "other" in text else ["there", "a"]
    script = "say('preloaded')"
    if "'there'" in text:
        box.install(there="")
        text = "import logging; logging.getLogger('there')"
        told = box.run([], f"{text}\nsay(Recorder(shelf, forks={forks}).load('a'))")
    else:
        told = box.run(preload, script, forks=forks)
        assert "unsafe" in told, told
        told = told["unsafe"]

    assert UNSAFE.get(text, "it changes logging") in told


def test_a_change_that_an_earlier_import_was_allowed_does_not_hide_a_later_one(box):
    box.install(
        other="value = 1",
        allowed="import other; other._cache = {}",
        again="import other; other._cache = {'a': 1}",
        bad="import other; other.value = 2",
    )

    assert box.run(["other", "allowed", "again"], "say(shelf.roots)") == [
        "other",
        "allowed",
        "again",
    ]
    told = box.run(["other", "allowed", "again", "bad"], "say('preloaded')")
    assert "it changes `other.value`" in told["unsafe"]


REPEATED = {
    "os.environ.setdefault('MADE', '1')": "os.environ.get('MADE')",
    "import warnings; warnings.filterwarnings('ignore', message='xyz')": "[f[1].pattern for f in warnings.filters if f[1]]",
    "import logging; logging.getLogger('mine').addHandler(logging.NullHandler())": "'mine' in logging.root.manager.loggerDict",
    "import copyreg\nclass C: pass\ncopyreg.pickle(C, lambda c: (C, ()))": "len(__import__('copyreg').dispatch_table)",
    "import codecs\ndef f(name): return codecs.lookup('ascii') if name == 'mycodec' else None\ncodecs.register(f)": "codec()",
    "import typing\ndef _collect(): pass\ntyping._mine = _collect": "hasattr(__import__('typing'), '_mine')",
}  # fmt: skip


@pytest.mark.parametrize("text", REPEATED)
def test_what_an_import_adds_to_the_process_appears_when_the_script_imports_it(box, text):
    box.install(a=f"import os\n{text}")
    script = f"""
    import codecs
    def codec():
        try: return codecs.lookup("mycodec").name
        except LookupError: return None
    before = {REPEATED[text]}
    import a
    after = {REPEATED[text]}
    say([before, after])
    """
    before, after = box.run(["a"], script)
    fresh = box.run([], script)

    assert before != after
    assert fresh == [before, after]


def test_exit_functions_are_those_of_what_the_script_has_imported(box):
    box.install(
        a="import atexit; atexit.register(print, json_a := '\"a\"')",
        b="import atexit; atexit.register(print, '\"b\"')",
    )

    assert "a" == box.run(["a", "b"], "import a")


def test_each_process_has_random_numbers_of_its_own(box):
    box.install(a="import random; R = random.Random()\nclass C: R = random.Random()")
    script = "import a; say([a.R.random(), a.C.R.random()])"
    first, second = box.run(["a"], forked()), box.run(["a"], script)

    assert 4 == len({*first, *second})


def forked():
    """Run the same in one of two forked children."""
    return """
    told, tells = os.pipe()
    if os.fork() == 0:
        import a
        os.write(tells, json.dumps([a.R.random(), a.C.R.random()]).encode())
        os._exit(0)
    theirs = json.loads(os.read(told, 1000))
    import a
    say(theirs) if a.R.random() not in theirs else say([0, 0])
    """


def test_a_generator_of_numpy_is_seeded_again(box):
    box.install(a="import numpy; G = numpy.random.default_rng(); F = numpy.random.default_rng(7)")
    script = "import a, numpy; say([a.G.random(), a.F.random(), numpy.random.rand()])"
    two = f"""
    told, tells = os.pipe()
    if os.fork() == 0:
        say = lambda value: os.write(tells, json.dumps(value).encode()) and os._exit(0)
        {script}
    theirs, mine = json.loads(os.read(told, 1000)), []
    import a, numpy
    say([theirs, [a.G.random(), a.F.random(), numpy.random.rand()]])
    """
    first, second = box.run(["a"], two)

    assert [True, False, True] == [x != y for x, y in zip(first, second, strict=True)]


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
    told = box.run(["a"], script)

    assert "installed" == harmless
    if "insert" in entry:
        assert "`b` would be found elsewhere: `sys.path` has changed" == told["changed"]
    else:
        assert "installed" == told


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
    told = box.run(
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

    assert "mine" == told


def test_a_stub_in_place_of_a_module_counts(box):
    box.install(a="import b", b="")
    told = box.run(["a"], "import types; sys.modules['b'] = types.ModuleType('b')\nimport a")

    assert "there is another `b`" == told["changed"]


def test_a_logger_that_the_script_asked_for_first_is_the_module_s_own(box):
    box.install(a="import logging; log = logging.getLogger('a.inner')")
    told = box.run(
        ["a"],
        """
        mine = logging.getLogger("a.inner")
        mine.setLevel(logging.ERROR)
        import a
        mine.propagate = False
        say([a.log.level, a.log.propagate, logging.getLogger("a.inner") is mine])
        """,
    )

    assert [40, False, True] == told


def test_a_logger_that_the_script_asked_for_first_and_an_import_has_configured_counts(box):
    box.install(a="import logging; logging.getLogger('a.inner').setLevel(logging.ERROR)")
    told = box.run(["a"], "import logging; logging.getLogger('a.inner')\nimport a")

    assert "the logger a.inner is there already" == told["changed"]


def test_loggers_of_what_is_not_imported_are_not_there_to_be_disabled(box):
    box.install(a="import logging; log = logging.getLogger('a')")
    script = """
        import logging.config
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
        import a
        say(a.log.disabled)
    """
    told = box.run(["a"], script)

    assert told is False


def test_a_hidden_warning_counts_where_the_script_has_asked_to_see_it(box):
    box.install(a="import warnings; warnings.warn('old', DeprecationWarning)")

    assert "imported" == box.run(["a"], "import a; say('imported')")
    told = box.run(["a"], "warnings.simplefilter('always')\nimport a")
    assert "the warning filters have changed" == told["changed"]


def test_the_working_directory_counts_where_an_import_asks_for_it(box):
    box.install(a="import os; HERE = os.getcwd()", b="")

    assert "the working directory has changed" == box.run(["a"], "import a")["changed"]
    assert "imported" == box.run(["b"], "os.chdir('/')\nimport b; say('imported')")


def test_a_file_of_the_users_counts_where_an_import_has_opened_it(box):
    """A later version of the user's files has another one there."""
    box.install(a="open('notes.txt', 'a').close()", b="open('/dev/null').close()")

    for name, told in (("a", "an import has read a file of another version"), ("b", "imported")):
        script = f"shelf.moves('/nowhere')\nimport {name}; say('imported')"
        found = box.run([name], script)
        assert told == (found["changed"] if isinstance(found, dict) else found)


def test_a_file_that_was_written_anew_or_a_package_that_came_makes_the_shelf_stale(box):
    box.install(a="V = 1")
    touch = f"open({str(box.site / 'a.py')!r}, 'a').write('#')"
    install = f"os.mkdir({str(box.site / 'x-2.0.dist-info')!r})"

    assert "" == box.run(["a"], "say(shelf.stale())")
    assert f"`{box.site / 'a.py'}` has changed" == box.run(["a"], f"{touch}; say(shelf.stale())")
    told = box.run(["a"], f"{install}; say(shelf.stale())")
    assert f"something was installed in `{box.site}`, or removed" == told


def test_which_variables_a_fork_must_have_is_known_before_it(box):
    box.install(
        a="import os; X = os.environ.get('SECRET'); os.environ['OWN'] = '1'; Y = os.environ['OWN']"
    )
    told = box.run(
        ["a"],
        "say([shelf.unlike({'SECRET': 's'}), shelf.unlike({'SECRET': 't'}), shelf.unlike({'SECRET': 's', 'Z': '1'})])",
        SECRET="s",
    )

    assert ["", "SECRET is another one", ""] == told


def test_the_process_is_as_it_was_after_a_module_was_preloaded(box):
    box.install(
        a="import os, logging, warnings; os.environ['X'] = '1'; logging.getLogger('a')\n"
        "warnings.filterwarnings('ignore', message='x')"
    )
    script = """
    say([sorted(sys.modules), sorted(os.environ), len(warnings.filters),
         sorted(logging.root.manager.loggerDict)])
    """

    assert box.run([], script) == box.run(["a"], script)


def test_functions_that_watch_an_import_do_not_stay_in_its_modules(box):
    box.install(
        a="from os import getpid, getcwd, urandom\nfrom warnings import warn\nfrom atexit import register"
    )
    script = """
        import a, atexit
        say([a.getpid is os.getpid, a.getcwd is os.getcwd, a.urandom is os.urandom,
             a.warn is warnings.warn, a.register is atexit.register])
    """
    told = box.run(["a"], script)

    assert [True] * 5 == told


def test_once_requests_are_inside_what_differs_is_imported_from_its_file(box):
    box.install(a="import os; V = os.environ.get('V')")
    script = """
        heard = []
        shelf.changed = lambda reason, modules: heard.append(reason)
        os.environ["V"] = "late"
        import a
        say([a.V, heard])
    """
    told = box.run(["a"], script)

    assert ["late", ["V was changed"]] == told
