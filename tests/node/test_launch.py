"""The variables of containers: the server's own stay with the server."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from homeport.contract.image import Image, Step
from homeport.node.launch import environ_for, environ_of
from tests.orders import launch

#: Of a server that somebody started by hand, with credentials in its shell.
OUTER = {
    "AWS_SECRET_ACCESS_KEY": "secret",
    "HOMEPORT_HOME": "/srv/homeport",
    "HOMEPORT_DATABASE": "postgresql://me:secret@db",
    "MODAL_TOKEN_SECRET": "secret",
    "SSH_AUTH_SOCK": "/run/agent",
    "LD_PRELOAD": "/opt/x.so",
    "PYTHONPATH": "/home/me",
    "VIRTUAL_ENV": "/opt/homeport",
    "HOME": "/home/me",
    "LANG": "de_DE.UTF-8",
    "SSL_CERT_FILE": "/etc/ours.pem",
    "https_proxy": "http://proxy:3128",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin",
}
PACKAGES = Image(steps=(Step(name="pip_install", args={"packages": ["x"]}),))


def test_a_container_gets_what_programs_need_of_the_servers_variables_and_no_others():
    found = environ_of(Image(), OUTER, "/opt/python/bin/python")

    expected = {name: OUTER[name] for name in ("HOME", "LANG", "SSL_CERT_FILE", "https_proxy")}
    expected |= {"PATH": f"/opt/python/bin{os.pathsep}/usr/bin", "PYTHONUNBUFFERED": "1"}
    assert expected == found


def test_programs_of_an_images_packages_are_found_first_and_homeports_own_never():
    found = environ_of(PACKAGES, OUTER, "/layers/x/bin/python")

    assert "/layers/x" == found["VIRTUAL_ENV"]
    assert ["/layers/x/bin", "/usr/bin"] == found["PATH"].split(os.pathsep)


def test_a_root_file_system_of_its_own_has_its_own_variables_and_the_machines_proxy():
    root = {"PATH": "/usr/local/bin", "LANG": "C"}
    found = environ_of(Image(), OUTER, "/usr/bin/python3", root)

    assert {**root, "https_proxy": "http://proxy:3128", "PYTHONUNBUFFERED": "1"} == found


def test_no_secret_takes_the_place_of_a_reserved_variable():
    names = ("HOMEPORT_TASK_ID", "MODAL_ENVIRONMENT", "HOMEPORT_APP", "NVIDIA_VISIBLE_DEVICES")
    forged = dict.fromkeys(names, "forged")
    found = environ_for(launch(), {**forged, "TMPDIR": "/its", "WORD": "sesame"}, OUTER)

    assert ("ta-1", "app", "void") == tuple(
        found[name] for name in ("HOMEPORT_TASK_ID", "HOMEPORT_APP", "NVIDIA_VISIBLE_DEVICES")
    )
    assert "forged" not in found.values()
    assert ("/its", "sesame") == (found["TMPDIR"], found["WORD"])


def test_a_container_sees_its_own_devices_and_no_others():
    its = environ_for(launch(devices=("GPU-1", "GPU-2")), {"CUDA_VISIBLE_DEVICES": "9"}, {})
    nobodys = environ_for(launch(), {}, {"CUDA_VISIBLE_DEVICES": "0"})

    assert "GPU-1,GPU-2" == its["CUDA_VISIBLE_DEVICES"] == its["NVIDIA_VISIBLE_DEVICES"]
    assert "" == nobodys["CUDA_VISIBLE_DEVICES"]


def test_a_container_sees_the_region_of_its_machine():
    of_none = launch()
    of_eu = replace(of_none, order=replace(of_none.order, region="eu-west"))

    assert "eu-west" == environ_for(of_eu, {"MODAL_REGION": "forged"}, {})["MODAL_REGION"]
    assert "local" == environ_for(of_none, {}, {})["MODAL_REGION"]


def test_programs_that_a_container_starts_find_modal_after_what_the_script_put_on_their_path():
    plain = environ_for(launch(), {}, {}, lib=Path("/run/lib"))
    own = environ_for(launch(), {"PYTHONPATH": "/mine"}, {}, lib=Path("/run/lib"))

    assert "/run/lib/homeport/onpath:/run/lib" == plain["PYTHONPATH"]
    assert "/mine:/run/lib/homeport/onpath:/run/lib" == own["PYTHONPATH"]
