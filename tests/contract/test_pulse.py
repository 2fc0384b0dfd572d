"""The page of memory by which a node sees that a container lives."""

import os
import time

import pytest

from homeport.contract.pulse import Pulse, Reader, create


@pytest.fixture
def descriptor():
    descriptor = create()
    yield descriptor
    os.close(descriptor)


def test_the_node_reads_what_the_runner_wrote(descriptor):
    pulse, reader = Pulse(descriptor), Reader(descriptor)
    before = time.monotonic()
    pulse.beat()
    pulse.turn()
    pulse.began()
    pulse.inside(2, deadline=before + 5)
    pulse.refused(24)
    pulse.held(3)

    seen = reader.read()

    assert before <= seen.beat <= seen.turn <= time.monotonic()
    assert (2, 24, 1, 3) == (seen.inside, seen.refused, seen.requests, seen.held)
    assert seen.deadline == pytest.approx(before + 5, abs=1e-6)
    pulse.inside(0, deadline=None)
    assert (0, 0.0) == (reader.read().inside, reader.read().deadline)
    reader.close()


def test_a_container_cannot_cut_the_page(descriptor):
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)


def test_a_page_without_a_seal_is_not_mapped():
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, 4096)

    with pytest.raises(ValueError, match="sealed"):
        Reader(loose)
    os.close(loose)


def test_a_page_that_the_users_code_has_spoilt_fails_no_request(descriptor):
    os.pwrite(descriptor, b"\xff" * 56, 0)
    pulse = Pulse(descriptor)
    pulse.began()
    pulse.inside(1, deadline=1.0)
    reader = Reader(descriptor)

    assert 0 == reader.read().requests
    reader.close()
