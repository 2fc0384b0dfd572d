"""Doors of containers: with a path for those in cells, with an abstract name for the others."""

import socket

from homeport.node.containers import door


def test_a_door_in_a_directory_is_found_by_its_address_and_goes(tmp_path):
    listener, address = door.make_in(tmp_path, "ta-1")
    with listener, socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(door.path(address))
        listener.accept()[0].close()

    assert f"unix:{tmp_path}/ta-1" == address
    door.remove(address)
    assert [] == list(tmp_path.iterdir())


def test_a_door_with_a_name_has_no_file_and_nobody_can_know_it_before():
    doors = [door.make("ta-1") for _ in range(2)]
    for listener, address in doors:
        with listener, socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(door.path(address))
            listener.accept()[0].close()
        door.remove(address)  # nothing is to be removed

    assert all(address.startswith("abstract:homeport-ta-1-") for _, address in doors)
    assert doors[0][1] != doors[1][1]


def test_a_sweep_leaves_the_doors_of_containers_that_go_on(tmp_path):
    for name in ("ta-1", "ta-2"):
        door.make_in(tmp_path, name)[0].close()
    tmp_path.chmod(0o755)  # as somebody's hand left it

    door.sweep(tmp_path, ["ta-2"])
    assert ["ta-2"] == [path.name for path in tmp_path.iterdir()]
    assert 0o700 == tmp_path.stat().st_mode & 0o777
