"""Each name of Modal that is not there yet can be imported, and its use says what to use instead."""

import importlib
import re
from pathlib import Path

import pytest

import homeport as modal
from homeport.sdk import alias, pending
from homeport.sdk.exception import UnimplementedError

GUIDE = Path(__file__).parents[2] / "docs/guides/modal.md"
#: The names in the index of Modal's reference, and those of its package that are no classes of old.
MODAL = """
    App Client CloudBucketMount Cls Cluster Cron Dict Environment Error FilePatternMatcher Function FunctionCall Image
    NetworkFileSystem Period Probe Proxy Queue Retries Sandbox SandboxSnapshot SchedulerPlacement Secret Server Service
    Tunnel Volume Workspace asgi_app batched clustered concurrent current_function_call_id current_input_id
    enable_output enter exit fastapi_endpoint forward interact is_local method parameter sessioned web_endpoint
    web_server wsgi_app
    billing call_graph config container_process exception experimental file_io gpu io_streams snapshot
""".split()  # noqa: SIM905 - a table is easier to compare


@pytest.mark.parametrize("name", MODAL)
def test_each_public_name_of_modal_is_there(name):
    assert hasattr(modal, name)


@pytest.mark.parametrize("name", sorted(pending.NAMES | {"clustered", "sessioned"}))
def test_a_use_says_what_to_use_instead(name):
    value = getattr(modal, name)
    uses = [lambda: value(1), lambda: value.from_name("x"), lambda: type("Mine", (value,), {})]
    for use in uses[:2]:
        with pytest.raises(UnimplementedError, match=f"{name}.*is not there yet in homeport: ."):
            use()


@pytest.mark.parametrize("name", ["Sandbox", "Client", "Cluster", "Workspace"])
def test_a_class_that_is_not_there_says_so_too(name):
    made = getattr(modal, name)()
    with pytest.raises(UnimplementedError, match=rf"`{name}\.run` is not there yet in homeport: ."):
        made.run()


def test_a_sandbox_says_it_at_its_creation():
    with pytest.raises(UnimplementedError, match=r"`Sandbox.create` is not there yet.*\.remote"):
        modal.Sandbox.create("python", "-c", "1")


@pytest.mark.parametrize("way", ["from_name", "lookup", "ephemeral"])
def test_an_object_that_is_not_there_may_be_declared_and_an_older_one_names_the_newer(way):
    assert isinstance(getattr(modal.Proxy, way)("mine"), modal.Proxy)
    with pytest.raises(UnimplementedError, match=r"use `modal\.Volume`"):
        getattr(modal.NetworkFileSystem, way)("mine")


@pytest.mark.parametrize("module", ["call_graph", "container_process", "file_io", "snapshot"])
def test_a_module_that_is_not_there_can_be_imported(module):
    found = alias.submodule(module)
    with pytest.raises(UnimplementedError, match=r"`Whatever\.SUCCESS` is not there yet"):
        found.Whatever.SUCCESS
    assert importlib.import_module(f"homeport.onpath.modal.{module}")


def test_a_name_that_modal_never_had_is_an_attribute_error_with_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean `Volume`"):
        _ = modal.Volme


def test_the_guide_has_the_same_table():
    text = GUIDE.read_text().partition("## Names that are not there")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)

    assert pending.INSTEAD == dict(rows)
