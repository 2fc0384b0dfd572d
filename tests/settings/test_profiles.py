"""Which server a command goes to, and with which token."""

import json
import stat

import pytest

from homeport import settings
from homeport.contract.errors import BadRequest, NotFound
from homeport.settings import profiles
from homeport.settings.profiles import Profile, Profiles

PROD = Profile(server="https://apps.example.com", token="of-prod", user="ada")
TEST = Profile(server="https://test.example.com", token="of-test", server_ca="/ca.pem")


def load(home, **environ):
    variables = {f"HOMEPORT_{key.upper()}": value for key, value in environ.items()}
    loaded = settings.load({"HOMEPORT_HOME": str(home), **variables})
    return loaded.server, loaded.token, loaded.server_ca


@pytest.fixture
def home(tmp_path):
    profiles.write(tmp_path, Profiles(current="prod", by_name={"prod": PROD, "test": TEST}))
    return tmp_path


def test_profiles_are_read_as_they_were_written_and_nobody_else_can_read_them(home):
    saved = profiles.read(home)

    assert ("prod", {"prod": PROD, "test": TEST}) == (saved.current, dict(saved.by_name))
    assert 0o600 == stat.S_IMODE((home / profiles.FILE).stat().st_mode)
    assert [profiles.FILE] == [path.name for path in home.iterdir()]
    assert "of-prod" not in repr(saved)


def test_without_profiles_a_command_goes_to_this_machine(tmp_path):
    assert ("", "", "") == load(tmp_path)
    assert ("", "", "") == load(tmp_path, profile="local")


def test_the_profile_in_use_says_where_a_command_goes(home):
    assert ("https://apps.example.com", "of-prod", "") == load(home)
    assert ("https://test.example.com", "of-test", "/ca.pem") == load(home, profile="test")
    assert ("", "", "") == load(home, profile="local")
    with pytest.raises(NotFound, match="no profile `other`"):
        load(home, profile="other")


def test_a_profiles_token_goes_to_no_other_server(home):
    server = "https://other.example.com"

    assert (server, "mine", "") == load(home, server=server, token="mine")
    assert (server, "mine", "") == load(home, server=server, token="mine", profile="test")
    with pytest.raises(BadRequest, match="there is no token for it"):
        load(home, server=server)
    # and the token of this machine's own server goes to no profile's
    assert ("https://apps.example.com", "of-prod", "") == load(home, token="of-this-machine")


def test_the_token_of_another_server_is_never_the_servers_own(home):
    def own(**environ):
        loaded = settings.of_server({"HOMEPORT_HOME": str(home), **environ})
        return loaded.server, loaded.token, loaded.server_ca

    assert ("", "", "") == own()
    assert ("", "", "") == own(HOMEPORT_PROFILE="test")
    assert ("", "mine", "") == own(HOMEPORT_TOKEN="mine")
    (home / "config.toml").write_text('server = "https://other.example.com"\ntoken = "of-other"\n')
    assert ("", "", "") == own()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"current": ""}', '{"current":"","profiles":[1]}']
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / profiles.FILE).write_text(text)
    with pytest.raises(BadRequest, match=profiles.FILE):
        load(tmp_path)


def test_a_field_of_a_later_homeport_is_no_profile(tmp_path):
    content = {"current": "", "profiles": {"x": {"server": "s", "token": "t", "more": "m"}}}
    (tmp_path / profiles.FILE).write_text(json.dumps(content))
    with pytest.raises(BadRequest, match="is damaged"):
        profiles.read(tmp_path)


@pytest.mark.parametrize("name", ["", "local", "a b", "../x", "-x", "x" * 65])
def test_a_text_that_cannot_name_a_profile_is_refused(name):
    with pytest.raises(BadRequest, match="cannot be named"):
        profiles.check_name(name)


def test_each_server_has_an_environment_of_its_own_for_commands_that_name_none(home):
    def chosen(**environ):
        variables = {"HOMEPORT_HOME": str(home), **environ}
        return settings.load(variables, environment=variables.pop("flag", None)).environment

    (home / "config.toml").write_text('environment = "of_config"\n')
    assert "of_config" == chosen()
    changed = profiles.read(home).with_environment({}, "of_prod")
    changed = changed.with_environment({"HOMEPORT_PROFILE": "local"}, "of_home")
    profiles.write(home, changed)

    assert ("of_prod", "of_home") == (chosen(), chosen(HOMEPORT_PROFILE="local"))
    assert "of_config" == chosen(HOMEPORT_PROFILE="test")
    assert "of_config" == chosen(HOMEPORT_SERVER="https://x.example", HOMEPORT_TOKEN="mine")
    assert ["a", "b"] == [chosen(MODAL_ENVIRONMENT="a"), chosen(HOMEPORT_ENVIRONMENT="b")]
    assert "c" == chosen(flag="c")
    with pytest.raises(NotFound, match="no profile `other`"):
        profiles.read(home).with_environment({"HOMEPORT_PROFILE": "other"}, "x")


def test_a_file_without_environments_is_as_earlier_versions_read_it(home):
    content = json.loads((home / profiles.FILE).read_text())

    assert {"current", "profiles"} == set(content)
    assert {"server", "token", "server_ca", "user"} == set(content["profiles"]["prod"])
