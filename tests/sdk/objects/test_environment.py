"""`Environment`, `Secret.objects` and `App.lookup`, which ask a server's API from the user's machine."""

import asyncio
import contextlib

import pytest

import homeport as modal
from homeport.contract.manifest import Manifest
from homeport.contract.scope import MAIN, Scope
from homeport.sdk import alias, context, exception
from homeport.sdk.objects import environments
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane, function, manifest


@contextlib.contextmanager
def container():
    context.enter_container({})
    try:
        yield
    finally:
        context._urls = None


async def asked(home, story, *wanted: tuple[Scope, Manifest]) -> None:
    """Run what a script does, which blocks, beside a server that has these apps."""
    async with Plane(home) as plane, on_a_socket(plane, home):
        for scope, app in wanted:
            await plane.deployer.deploy(
                scope, app.app_name, app, tag="", strategy="rolling", say=lambda _text: None
            )
        await asyncio.to_thread(story)


async def test_environments_are_managed_by_the_server(home):
    def story():
        with pytest.raises(exception.NotFoundError, match="no environment `dev`"):
            modal.Environment.from_name("dev").hydrate()
        modal.Environment.objects.create("dev")
        with pytest.raises(exception.AlreadyExistsError):
            modal.Environment.objects.create("dev")
        made = modal.Environment.from_name("other", create_if_missing=True).hydrate()
        assert "other" == made.name
        assert "main" == modal.Environment.from_name("main").hydrate().name
        keys = [environments.key(name) for name in ("other", "main", "other")]
        assert keys[0] == keys[2] != keys[1]
        assert all(keys)
        assert ["dev", "main", "other"] == [e.name for e in modal.Environment.objects.list()]
        modal.Environment.objects.delete("dev")
        with pytest.raises(exception.NotFoundError):
            modal.Environment.objects.delete("dev")
        older = alias.submodule("environments")
        older.create_environment("old")
        assert "old" in [e.name for e in older.list_environments()]
        older.delete_environment("old")
        assert "old" not in [e.name for e in older.list_environments()]
        with pytest.raises(exception.InvalidError, match="cannot be deleted"):
            modal.Environment.objects.delete("main")
        with pytest.raises(exception.UnimplementedError, match="token create --env"):
            modal.Environment.objects.create("mine", restricted=True)
        with pytest.raises(exception.UnimplementedError, match="token create --env"):
            made.members.list()

    await asked(home, story)


@pytest.mark.parametrize("name", ["", "a/b", "-x", None, "x" * 65])
def test_a_name_that_no_environment_has_is_refused_at_once(name):
    with pytest.raises(exception.InvalidError, match="Invalid Environment name"):
        modal.Environment.from_name(name)


async def test_secrets_are_managed_by_the_server(home):
    def story():
        secrets = modal.Secret.objects
        secrets.create("one", {"A": "1", "B": None})
        with pytest.raises(exception.AlreadyExistsError):
            secrets.create("one", {"A": "2"})
        secrets.create("one", {"A": "2"}, allow_existing=True)
        secrets.create("two", {"A": "2"})
        assert ["two", "one"] == [each.name for each in secrets.list()]
        assert ["two"] == [each.name for each in secrets.list(max_objects=1)]
        assert [] == secrets.list(created_before="2020-01-01")
        info = modal.Secret.from_name("one").hydrate().info()
        assert ("one", True) == (info.name, info.created_at.timestamp() > 0)
        modal.Environment.objects.create("dev")
        secrets.create("theirs", {"A": "3"}, environment_name="dev")
        assert ["theirs"] == [each.name for each in secrets.list(environment_name="dev")]
        with pytest.raises(exception.NotFoundError):
            modal.Secret.from_name("theirs").info()
        assert "theirs" == modal.Secret.from_name("theirs", environment_name="dev").info().name
        secrets.delete("one")
        secrets.delete("one", allow_missing=True)
        with pytest.raises(exception.NotFoundError):
            secrets.delete("one")
        for env_dict, text in (({"A": 1}, "has to be a dict"), ({"A B": "1"}, "environment var")):
            with pytest.raises(exception.InvalidError, match=text):
                secrets.create("three", env_dict)
        with pytest.raises(exception.InvalidError, match="has no name"):
            modal.Secret.from_dict({"A": "1"}).info()

    await asked(home, story)


async def test_a_deployed_app_is_found_by_its_name_and_its_id(home):
    def story():
        found = modal.App.lookup("shop")
        assert ("shop", True) == (found.name, found.app_id.startswith("ap-"))
        assert found.app_id == modal.App.lookup(found.app_id).app_id
        modal.Environment.objects.create("dev")
        for name, environment in (("other", None), ("shop", "dev")):
            with pytest.raises(exception.NotFoundError, match=f"no deployed app `{name}`"):
                modal.App.lookup(name, environment_name=environment)
        with pytest.raises(exception.UnimplementedError, match="once it is deployed"):
            modal.App.lookup("new", create_if_missing=True)
        assert modal.App("shop").app_id is None

    await asked(home, story, (MAIN, manifest(function("f"), app="shop")))


@pytest.mark.parametrize("name", ["prod", "{0}", "{x}", "{"])
def test_a_container_reaches_its_own_environment_alone(monkeypatch, name):
    reach = context.Reach(socket="", key="k", environment="main", container="ta-1")
    monkeypatch.setattr(context, "_reach", reach)
    with pytest.raises(exception.NotFoundError) as refused:
        environments.checked(name)

    assert f"there is no environment '{name}' for this container" in str(refused.value)
    assert "reaches the objects of 'main' alone" in str(refused.value)
    assert ("main", "") == (environments.checked("main"), environments.checked(None))


def test_a_container_may_not_ask_for_any_of_them():
    asks = (
        modal.Environment.objects.list,
        lambda: modal.Environment.objects.create("x"),
        lambda: modal.Environment.from_name("x").hydrate(),
        modal.Secret.objects.list,
        lambda: modal.Secret.from_name("x").info(),
        lambda: modal.App.lookup("shop"),
    )
    with container():
        for ask in asks:
            with pytest.raises(exception.ExecutionError, match="on the user's machine"):
                ask()
