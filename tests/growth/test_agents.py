"""What the agent of a machine of Ray's gets; how it starts is in tests/journeys/test_growth.py, with a real Ray."""

from pathlib import Path

from homeport.contract.joining import JOIN, TOKEN
from homeport.growth import agents

OF_RAY = {"RAY_AUTH_TOKEN": "secret", "RAY_JOB_ID": "1", "PATH": "/bin", "HOMEPORT_HOME": "/h"}


def test_an_agent_that_joins_gets_its_own_home_and_its_token_and_nothing_of_rays():
    home = agents.home_of("ray-1", OF_RAY)
    environ = agents.environ_of(home, "ray-1", "10.0.0.1:7600", "token", OF_RAY)

    assert Path("/h/nodes/ray-1") == home
    assert {
        "PATH": "/bin",
        "HOMEPORT_HOME": "/h/nodes/ray-1",
        JOIN: "10.0.0.1:7600 ray-1",
        TOKEN: "token",
    } == environ


def test_an_agent_that_has_joined_before_is_not_told_to_join():
    environ = agents.environ_of(Path("/h/nodes/ray-1"), "ray-1", "", "", OF_RAY)

    assert {"PATH": "/bin", "HOMEPORT_HOME": "/h/nodes/ray-1"} == environ


def test_without_a_home_of_homeport_the_agents_is_in_the_users():
    assert Path.home() / ".homeport/nodes/ray-1" == agents.home_of("ray-1", {})
