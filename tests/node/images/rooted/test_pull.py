"""What the settings of a registry's image become, whoever wrote them."""

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import PATH
from homeport.node.images.rooted import pull
from homeport.node.images.rooted.operations import SHELL


def test_settings_of_an_image_are_those_of_its_containers():
    config = pull.config_of(
        {"Env": ["A=1=2", "=x", "B"], "WorkingDir": "/srv/", "Entrypoint": ["/run", "-v"]}
    )

    assert config.environ == {"PATH": PATH, "A": "1=2", "B": ""}
    assert (config.workdir, config.shell) == ("/srv", SHELL)
    assert config.entrypoint == ("/run", "-v")


def test_an_image_without_settings_has_the_usual_ones():
    config = pull.config_of({"Env": None, "WorkingDir": None, "Shell": None, "Entrypoint": None})

    assert (config.environ, config.workdir, config.entrypoint) == ({"PATH": PATH}, "", ())


@pytest.mark.parametrize("name", ["Env", "Shell", "Entrypoint"])
@pytest.mark.parametrize("value", ["A=1", {"A": "1"}, 7, [7], [["A=1"]], ["A=\0"], ["A=\ud800"]])
def test_settings_that_no_program_can_get_are_an_error_of_the_image(name, value):
    with pytest.raises(ImageError, match=f"setting `{name}`"):
        pull.config_of({name: value})


@pytest.mark.parametrize("value", [7, ["/srv"], "/\0"])
def test_a_working_directory_that_is_no_path_is_an_error_of_the_image(value):
    with pytest.raises(ImageError, match="setting `WorkingDir`"):
        pull.config_of({"WorkingDir": value})
