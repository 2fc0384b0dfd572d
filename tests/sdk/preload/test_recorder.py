"""What an import did to the process, undone, and repeated for a script that imports it."""

import pytest

from homeport.node.zygotes.learned import BASE


def test_a_module_that_another_one_makes_comes_with_it_alone(box):
    box.install(maker="import sys, types; sys.modules['made'] = types.ModuleType('made')", other="")
    printed = box.run(
        ["maker", "other"],
        """
        before = ["made" in sys.modules]
        import other
        before += ["made" in sys.modules]
        import maker, made
        say([before, made is sys.modules["made"]])
        """,
    )

    assert [[False, False], True] == printed


@pytest.mark.parametrize("together", [True, False])
def test_a_part_of_a_package_may_call_itself_otherwise(box, together):
    # As the machine code in websockets 17, `websocket.speedups`.
    box.install(package="", package__fast="__name__ = 'packages.fast'; value = 1", other="")

    printed = box.run(
        ["package.fast", "other"],
        "import package.fast; say(package.fast.value)",
        together=together,
    )
    assert 1 == printed


def test_the_modules_of_every_base_zygote_are_safe_all_at_once(box):
    # Else each server imports it twice, the second time one after the other to find the unsafe one.
    assert "" == box.run([], f"say(recorder.load(*{BASE}))", LANG="C.UTF-8")


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


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("text", UNSAFE)
def test_an_import_that_changes_the_process_is_not_preloaded(box, text, together):
    box.install(
        a=f"import os\n{text}", other="import logging\nvalue = 1\nlogging.getLogger('there')"
    )
    preload = ["other", "a"] if "other" in text else ["there", "a"]
    script = "say('preloaded')"
    if "'there'" in text:
        box.install(there="")
        text = "import logging; logging.getLogger('there')"
        printed = box.run([], f"{text}\nsay(Recorder(shelf).load('a'))")
    else:
        printed = box.run(preload, script, together=together)
        assert "unsafe" in printed, printed
        printed = printed["unsafe"]

    assert UNSAFE.get(text, "it changes logging") in printed


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
    printed = box.run(["other", "allowed", "again", "bad"], "say('preloaded')")
    assert "it changes `other.value`" in printed["unsafe"]


REPEATED = {
    "os.environ.setdefault('MADE', '1')": "os.environ.get('MADE')",
    "import warnings; warnings.filterwarnings('ignore', message='xyz')": "[f[1].pattern for f in warnings.filters if f[1]]",
    "import logging; logging.getLogger('mine').addHandler(logging.NullHandler())": "'mine' in logging.root.manager.loggerDict",
    "import copyreg\nclass C: pass\ncopyreg.pickle(C, lambda c: (C, ()))": "len(__import__('copyreg').dispatch_table)",
    "import codecs\ndef f(name): return codecs.lookup('ascii') if name == 'mycodec' else None\ncodecs.register(f)": "codec()",
    "import typing\ndef _collect(): pass\ntyping._mine = _collect": "hasattr(__import__('typing'), '_mine')",
    "import inspect\nwas = inspect.getfile\ndef mine(x): return was(x)\ninspect.getfile = mine": "__import__('inspect').getfile.__module__",
}  # fmt: skip


@pytest.mark.parametrize("text", REPEATED)
def test_the_effects_of_an_import_appear_when_the_script_imports_the_module(box, text):
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


def test_an_addition_to_a_list_of_python_appears_with_the_module_that_makes_it(box):
    box.install(
        werkzeug="",
        werkzeug__urls="import urllib.parse\nurllib.parse.uses_netloc += ['mine', 'too']",
    )
    script = """
    import urllib.parse
    before = urllib.parse.uses_netloc[-2:]
    import werkzeug.urls
    say([before, urllib.parse.uses_netloc[-2:]])
    """
    before, after = box.run(["werkzeug.urls"], script)

    assert ["mine", "too"] == after
    assert [before, after] == box.run([], script)


def test_the_effects_of_several_modules_appear_in_the_order_in_which_they_came(box):
    box.install(
        a="import os; os.environ['X'] = 'a'; import b", b="import os; os.environ['X'] = 'b'"
    )

    assert "b" == box.run(["a"], "import a; say(os.environ['X'])")


def test_a_module_that_reads_all_variables_with_a_prefix_depends_on_these(box):
    text = "import os; MINE = {k: v for k, v in os.environ.items() if k.startswith('TQDM_')}"
    box.install(tqdm="", tqdm__std=text, other=text)
    script = "unlike = [shelf.unlike({**os.environ, name: '1'}) for name in ('A', 'TQDM_B')]; import tqdm.std; say(unlike)"

    assert ["", "TQDM_B was changed"] == box.run(["tqdm.std"], script)
    assert "`other`: it reads all environment variables" in box.run(["other"], script)["unsafe"]


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
    readable, writable = os.pipe()
    if os.fork() == 0:
        import a
        os.write(writable, json.dumps([a.R.random(), a.C.R.random()]).encode())
        os._exit(0)
    theirs = json.loads(os.read(readable, 1000))
    import a
    say(theirs) if a.R.random() not in theirs else say([0, 0])
    """


def test_a_generator_of_numpy_is_seeded_again(box):
    box.install(a="import numpy; G = numpy.random.default_rng(); F = numpy.random.default_rng(7)")
    script = "import a, numpy; say([a.G.random(), a.F.random(), numpy.random.rand()])"
    two = f"""
    readable, writable = os.pipe()
    if os.fork() == 0:
        say = lambda value: os.write(writable, json.dumps(value).encode()) and os._exit(0)
        {script}
    theirs, mine = json.loads(os.read(readable, 1000)), []
    import a, numpy
    say([theirs, [a.G.random(), a.F.random(), numpy.random.rand()]])
    """
    first, second = box.run(["a"], two)

    assert [True, False, True] == [x != y for x, y in zip(first, second, strict=True)]


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


def test_a_variable_that_an_import_changes_keeps_its_value_until_the_script_imports_the_module(box):
    box.install(a="import os; os.environ['OLD'] = 'new'")
    script = "before = os.environ['OLD']; import a; say([before, os.environ['OLD']])"

    assert ["old", "new"] == box.run(["a"], script, OLD="old")


def test_functions_that_watch_an_import_do_not_stay_in_its_modules(box):
    box.install(
        a="from os import getpid, getcwd, urandom\nfrom warnings import warn\nfrom atexit import register"
    )
    script = """
        import a, atexit
        say([a.getpid is os.getpid, a.getcwd is os.getcwd, a.urandom is os.urandom,
             a.warn is warnings.warn, a.register is atexit.register])
    """
    printed = box.run(["a"], script)

    assert [True] * 5 == printed
