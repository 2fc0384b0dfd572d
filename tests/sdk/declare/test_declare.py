"""What `homeport.sdk.declare` says of a script, in a fresh interpreter as the command line does."""

import os
import sys
import textwrap

import pytest

HELLO = """
    import modal
    app = modal.App("hello")

    @app.function(min_containers=1, gpu="H100:2", timeout=10, region="eu", routing_region="us")
    @modal.concurrent(max_inputs=5, target_inputs=2)
    @modal.fastapi_endpoint(method="post", label="hi", requires_proxy_auth=True)
    def hello():
        return 1

    @app.function()
    def called():
        yield 1
"""


def test_homeport_imports_pythons_own_modules_beside_files_of_the_same_names(declare):
    names = {name for name in sys.stdlib_module_names if name not in sys.builtin_module_names}
    files = {f"{name}.py": "raise RuntimeError('this is the user's file')" for name in names}

    declared = declare(HELLO, files=files)

    assert ["hello", "called"] == [f["name"] for f in declared["manifest"]["functions"]]


def test_a_script_imports_what_is_in_the_current_directory(declare):
    declared = declare(
        None,
        ref="scripts/shop.py",
        files={
            "scripts/shop.py": "import modal, prices\napp = modal.App(prices.NAME)\napp.function()(prices.f)",
            "prices.py": "NAME = 'shop'\ndef f(): pass",
        },
    )

    assert declared["error"] is None


def test_a_manifest_holds_what_was_declared(declare):
    answer = declare(HELLO)
    function, called = answer["manifest"]["functions"]
    (web,) = function["web"]
    (call,) = called["calls"]

    assert "hello" == answer["manifest"]["app_name"]
    assert ("hello", "script", "hello") == tuple(
        function[k] for k in ("name", "module", "qualname")
    )
    assert (1, 5, 2, 10.0, 10.0) == tuple(
        function[k]
        for k in ("min_containers", "max_inputs", "target_inputs", "timeout_s", "startup_timeout_s")
    )
    assert (["H100:2"], ["eu"]) == (function["gpu"], function["region"])
    assert ("called", "called", True, []) == (
        call["tag"],
        call["attribute"],
        call["generator"],
        called["web"],
    )
    assert ("POST", "hi", True) == tuple(
        web[k] for k in ("http_method", "label", "requires_proxy_auth")
    )
    assert ["script.py"] == [file["path"] for file in answer["manifest"]["files"]]
    assert ["`routing_region` is accepted and has no effect here"] == [
        text.split(": ", 1)[1] for text in answer["warnings"]
    ]


def test_local_modules_travel_with_the_script_and_installed_ones_do_not(declare):
    answer = declare(
        "import modal, words, package.inner, json, fastapi\n" + textwrap.dedent(HELLO),
        files={
            "words.py": "WORD = 1",
            "package/__init__.py": "",
            "package/inner.py": "",
            "unused.py": "",
        },
    )

    assert {"script.py", "words.py", "package/__init__.py", "package/inner.py"} == {
        file["path"] for file in answer["manifest"]["files"]
    }
    assert len(answer["watch"]) == 4


def test_a_module_that_is_found_by_way_of_the_directory_above_has_its_own_place(declare):
    above = "import sys\nsys.path.insert(0, __file__.rpartition('/')[0] + '/..')\n"
    script = f"{above}import modal, deep.part, beside\n" + textwrap.dedent(HELLO).replace(
        'App("hello")', 'App("hello", image=modal.Image.debian_slim())'
    )
    files = {"deep/script.py": script, "deep/part.py": "", "beside.py": ""}
    answer = declare(None, files=files, ref="deep/script.py")

    assert ["part.py", "script.py"] == [file["path"] for file in answer["manifest"]["files"]]
    assert ["beside"] == [w.split("`")[1] for w in answer["warnings"] if "not uploaded" in w]


def test_local_modules_that_a_function_imports_travel_too(declare):
    files = {
        "later.py": "import os\ndef go():\n    from deep.er import thing, other as another\n",
        "deep/er/__init__.py": "",
        "deep/er/thing.py": "def go():\n    from .. import up\n    from ...beyond import x\n",
        "deep/er/other.py": "def go():\n    from . import (\n        thing,  # one\n        more,\n    )",
        "deep/er/more.py": "",
        "deep/up.py": "",
        "deep/er/unused.py": "",
        "unused.py": "",
        "venv/json.py": "",
    }
    script = HELLO + "    def more():\n        import json, later\n        import venv.json\n"
    answer = declare(script, files=files)

    assert {
        "script.py", "later.py", "deep/er/__init__.py", "deep/er/thing.py", "deep/er/other.py",
        "deep/er/more.py", "deep/up.py",
    } == {file["path"] for file in answer["manifest"]["files"]}  # fmt: skip


def test_a_local_module_that_an_image_does_not_have_is_told(declare, tmp_path):
    (tmp_path / "above").mkdir()
    text = 'import sys; sys.path.append("above"); import pack.part; import modal\n'
    files = {"above/pack/__init__.py": "", "above/pack/part.py": ""}
    script = text + textwrap.dedent(HELLO).replace('App("hello")', 'App("hello", image=I)')

    def warnings(image: str) -> list[str]:
        ref = "deep/script.py"
        text = script.replace("app =", f"I = {image}\napp =")
        answer = declare(None, files={**files, ref: text}, ref=ref)["warnings"]
        return [warning for warning in answer if "not uploaded" in warning]

    plain = "modal.Image.debian_slim()"
    (warning,) = warnings(plain)
    assert f"`pack` is imported from {tmp_path}/above/pack/__init__.py, which" in warning
    assert [] == warnings(plain + '.add_local_python_source("pack")')
    assert [] == warnings("modal.Image()")


def test_files_left_out_are_named_and_files_that_cannot_travel_are_refused(declare, tmp_path):
    script = """
        import modal
        image = modal.Image.debian_slim().add_local_dir("data", "/root/data")
        app = modal.App("a", image=image)

        @app.function()
        @modal.asgi_app()
        def web(): pass
    """
    files = {"data/a.txt": "a", "data/.git/HEAD": "", "data/env/pyvenv.cfg": "", "venv/x.py": ""}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "circle").symlink_to(".")
    answer = declare(script, files=files)

    (warning,) = answer["warnings"]
    assert f"script.py:3: left out of {tmp_path}/data: `.git`, `circle`, `env`; " in warning
    assert warning.endswith('`ignore=["!**/.git"]` takes that in')
    assert {"script.py", "data/a.txt"} == {file["path"] for file in answer["manifest"]["files"]}

    name = os.fsencode(tmp_path / "data") + b"/\xff.txt"
    with open(name, "w"):  # a name that is not UTF-8
        assert r"\udcff.txt' is not UTF-8 text" in declare(None)["error"]["message"]
    os.unlink(name)
    with (tmp_path / "data" / "large.bin").open("wb") as file:
        file.truncate(1024**3 + 1)
    assert "data/large.bin is larger than 1 GiB" in declare(None)["error"]["message"]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ('add_local_file("data", "/root/data")', "data cannot be read: Is a directory"),
        ('add_local_dir("a.txt", "/root/data")', "takes a directory, and"),
        ('add_local_dir("data", "/root/data", ignore="*.txt")', "takes `ignore` as a list"),
        ('add_local_dir("data", "/root/data", ignore=[1])', "list of patterns, not [1]"),
    ],
)
def test_a_local_path_of_the_wrong_kind_is_refused(declare, step, text):
    script = HELLO.replace('App("hello")', f'App("hello", image=modal.Image().{step})')

    assert text in declare(script, files={"data/b.txt": "", "a.txt": ""})["error"]["message"]


def test_a_function_says_which_files_of_a_directory_are_ignored(declare):
    ignore = "lambda path: path.name in ('b[1].txt', '!c.txt')"
    step = f'add_local_dir("data", "/root/data", ignore={ignore})'
    script = HELLO.replace('App("hello")', f'App("hello", image=modal.Image().{step})')
    files = {"data/a.txt": "", "data/b[1].txt": "", "data/b1.txt": "", "data/!c.txt": ""}
    answer = declare(script, files=files)

    assert {"script.py", "data/a.txt", "data/b1.txt"} == {
        file["path"] for file in answer["manifest"]["files"]
    }


def test_modal_is_homeport_submodules_too(declare):
    answer = declare(
        """
        import modal
        import modal.exception
        from modal.functions import Function
        from modal import App, enable_output, is_local
        import homeport

        assert modal is homeport
        assert modal.exception.InvalidError
        assert is_local()
        app = App("aliased")

        @app.function()
        @modal.asgi_app()
        def web():
            pass

        assert isinstance(web, Function)
        """
    )

    assert "aliased" == answer["manifest"]["app_name"]


CLASS = """
    import modal
    app = modal.App("c")

    class Base:
        @modal.fastapi_endpoint()
        def inherited(self): pass

    @app.cls()
    @modal.concurrent(max_inputs=3)
    class Model(Base):
        size: int = modal.parameter(default=1)
        name: str = modal.parameter()

        @modal.enter()
        def load(self): pass

        @modal.asgi_app(label="own")
        def whole(self): pass
"""


def test_a_class_is_one_function_with_several_urls(declare):
    (function,) = declare(CLASS)["manifest"]["functions"]

    assert ("Model.*", "Model", True, 3) == tuple(
        function[k] for k in ("name", "qualname", "is_class", "max_inputs")
    )
    assert ["Model.inherited", "Model.whole"] == [web["tag"] for web in function["web"]]
    assert [("size", "int", False, 1), ("name", "str", True, None)] == [
        tuple(p[k] for k in ("name", "type", "required", "default")) for p in function["parameters"]
    ]


@pytest.mark.parametrize(
    ("text", "args", "ref", "message", "where"),
    [
        (None, [], "nothing.py", "there is no file `nothing.py`", ""),
        (None, [], "shop.web", "must be specified with the -m flag", ""),
        (None, ["-m"], "shop.web", "there is no module `shop`", ""),
        ("app = 1", [], "script.py:app", "Invalid object reference", ""),
        ("def (:", [], "script.py", "SyntaxError: invalid syntax", "script.py:1"),
        ("\n1 / 0", [], "script.py", "ZeroDivisionError: division by zero", "script.py:2"),
        ("import nowhere", [], "script.py", "No module named 'nowhere'", "script.py:1"),
        ("from . import x", [], "script.py", "uses a relative import", "script.py:1"),
        ("raise SystemExit(3)", [], "script.py", "the script ended itself", "script.py:1"),
        ("x = 1", [], "script.py", "there is no App in `script.py`", ""),
        ("import modal\na = modal.App('a')\nb = modal.App('b')", [], "script.py", "2 Apps", ""),
        ("import modal\napp = modal.App('a')", [], "script.py::ap", "there is no `ap`", ""),
        ("import modal\napp = 1", [], "script.py::app", "`app` is not a Modal App", ""),
        ("import modal\napp = modal.App()", [], "script.py", "a deployment name", "script.py:2"),
        ("import modal\napp = modal.App('a b')", [], "script.py", "Invalid App name: 'a b'.", ""),
        (
            "import modal\napp = modal.App('a')\napp.function(timeout=None)",
            [],
            "script.py",
            "`timeout` parameter cannot be set to None",
            "script.py:3",
        ),
    ],
)
def test_a_script_that_cannot_be_loaded_says_what_where_and_no_frame_of_ours(
    declare, text, args, ref, message, where
):
    error = declare(text, *args, ref=ref)["error"]

    assert message in error["message"]
    assert error["where"].startswith(where)
    assert "homeport" not in error["traceback"]
    assert "importlib" not in error["traceback"]


def test_a_package_that_is_missing_is_named_with_where_to_install_it(declare):
    error = declare("import flasque.views", ref="script.py")["error"]

    assert error["hint"].startswith("install `flasque` beside homeport; or,")
    assert "" == declare("import modal.not_there", ref="script.py")["error"]["hint"]


def test_a_name_that_python_cannot_import_is_refused(declare):
    answer = declare(None, ref="my.app.py", files={"my.app.py": "x = 1", "notes.txt": "x"})
    other = declare(None, ref="notes.txt")

    assert "cannot contain additional period characters" in answer["error"]["message"]
    assert "is not a Python file" in other["error"]["message"]


def test_a_near_miss_is_suggested(declare):
    assert "did you mean `script.py`?" in declare("x = 1", ref="scrip.py")["error"]["hint"]
    answer = declare("import modal\napp = modal.App('a')", ref="script.py::ap")
    assert "script.py::app" in answer["error"]["hint"]
    answer = declare("app = 1", ref="script.py:app")
    assert "`script.py::app`" in answer["error"]["hint"]


def test_a_module_is_loaded_by_its_dotted_name(declare):
    answer = declare(
        None,
        "-m",
        ref="shop.web",
        files={
            "shop/__init__.py": "",
            "shop/words.py": "WORD = 1",
            "shop/web.py": """
                import modal
                from . import words
                app = modal.App("shop")

                @app.function()
                @modal.asgi_app()
                def web(): pass
            """,
        },
    )

    assert "shop.web" == answer["manifest"]["functions"][0]["module"]
    assert {"shop/__init__.py", "shop/web.py", "shop/words.py"} == {
        file["path"] for file in answer["manifest"]["files"]
    }


def test_a_decorated_function_that_no_app_took_is_warned_of(declare):
    answer = declare(
        """
        import modal
        app = modal.App("a")

        @modal.fastapi_endpoint()
        def lonely(): pass

        @app.function()
        @modal.asgi_app()
        def web(): pass
        """
    )

    (warning,) = answer["warnings"]
    assert warning.startswith("script.py:5: `lonely` is decorated and belongs to no app")


def test_the_output_of_a_script_does_not_disturb_its_manifest(declare):
    assert "hello" == declare("print('noise')\n" + textwrap.dedent(HELLO))["manifest"]["app_name"]


def test_an_images_files_travel_and_its_steps_are_recorded(declare):
    answer = declare(
        """
        import modal
        image = (
            modal.Image.debian_slim().pip_install("flask>=3", ["x", "y"]).env({"A": "1"})
            .add_local_file("data.txt", "/root/data/")
            .add_local_dir("folder", "/root/folder")
        )
        app = modal.App("a", image=image)

        @app.function()
        @modal.asgi_app()
        def web(): pass
        """,
        files={"data.txt": "x", "folder/a.txt": "a", "folder/b/c.txt": "c"},
    )
    steps = answer["manifest"]["functions"][0]["image"]["steps"]

    assert ["debian_slim", "pip_install", "env", "add_local_file", "add_local_dir"] == [
        step["name"] for step in steps
    ]
    assert ["flask>=3", "x", "y"] == steps[1]["args"]["packages"]
    assert "script.py:4" == steps[1]["where"]
    assert {"script.py", "data/data.txt", "folder/a.txt", "folder/b/c.txt"} == {
        file["path"] for file in answer["manifest"]["files"]
    }


def test_files_of_a_step_travel_in_its_arguments_and_secrets_do_not(declare):
    answer = declare(
        """
        import modal
        def train(n): pass
        token = modal.Secret.from_dict({"TOKEN": "hush-hush"})
        image = (
            modal.Image.debian_slim()
            .pip_install_from_requirements("all.txt", secrets=[token])
            .add_local_dir("folder", "/root/folder", copy=True)
            .run_function(train, args=(3,), gpu="H100", force_build=True)
        )
        app = modal.App("a", image=image)

        @app.function()
        @modal.asgi_app()
        def web(): pass
        """,
        files={
            "all.txt": "-r more.txt\n-c limits.txt\n# mine\nsix",
            "more.txt": "idna  # more",
            "limits.txt": "six<2",
            "folder/a.txt": "a",
        },
    )
    function = answer["manifest"]["functions"][0]
    listed, copied, run = (step["args"] for step in function["image"]["steps"][1:])

    texts = {"requirements": "idna  # more\n# mine\nsix\n", "constraints": "six<2\n"}
    assert {**texts, "secrets": [0]} == listed
    assert ["folder/a.txt"] == list(copied["files"])
    assert ("script", "train", [3]) == (run["module"], run["qualname"], run["args"])
    assert {"gpu", "secrets"}.isdisjoint(run)
    assert [{"TOKEN": "hush-hush"}] == [secret["values"] for secret in function["build_secrets"]]
    assert "hush-hush" not in str(function["image"])


@pytest.mark.parametrize(("path", "text"), [("folder/a.txt", "b"), ("script.py", "n + 1")])
def test_an_images_key_changes_with_the_files_and_functions_in_it(declare, path, text):
    script = """
        import modal
        def train(n): return {}
        image = modal.Image.debian_slim().add_local_dir("folder", "/root/x", copy=True)
        app = modal.App("a", image=image.run_function(train))

        @app.function()
        @modal.asgi_app()
        def web(): pass
    """

    def steps(content: str, returned: str) -> list[dict]:
        answer = declare(script.format(returned), files={"folder/a.txt": content})
        return [s["args"] for s in answer["manifest"]["functions"][0]["image"]["steps"]]

    changed = steps(text, "n") if path == "folder/a.txt" else steps("a", text)

    assert steps("a", "n") == steps("a", "n")
    assert steps("a", "n") != changed


def test_a_script_that_does_not_exist_is_watched_so_that_its_creation_is_seen(declare, tmp_path):
    answer = declare(None)

    assert "there is no file `script.py`" == answer["error"]["message"]
    assert str(tmp_path / "script.py") in answer["watch"]


INCLUDED = """
    import modal
    secret = modal.Secret.from_dict
    app = modal.App("main", image=modal.Image.debian_slim().env({"WHO": "main"}))
    other = modal.App("part", image=modal.Image.debian_slim().env({"WHO": "other"}), secrets=[secret({"S": "other"})])

    @other.function()
    @modal.fastapi_endpoint()
    def theirs():
        return 1

    @other.cls()
    class Theirs:
        @modal.fastapi_endpoint()
        def web(self):
            return 1

    @app.function()
    @modal.fastapi_endpoint()
    def ours():
        return 1

    app.include(other)
"""


def test_an_included_function_keeps_the_image_and_the_secrets_of_its_own_app(declare):
    functions = declare(INCLUDED)["manifest"]["functions"]

    assert {"theirs": ("other", 1), "Theirs.*": ("other", 1), "ours": ("main", 0)} == {
        spec["name"]: (spec["image"]["steps"][-1]["args"]["vars"]["WHO"], len(spec["secrets"]))
        for spec in functions
    }
