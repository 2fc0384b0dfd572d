"""The codes of login links: each works once, for a minute."""

import pytest

from homeport.contract.api.dashboard import CODE_S
from homeport.contract.errors import Unauthorized
from homeport.control.api import logins
from homeport.control.api.access import Caller
from homeport.control.api.logins import Logins
from tests.clock import Clock

ADA, BOB = (Caller(by="token", name=name, token=f"ak-{name}") for name in ("ada", "bob"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known(clock):
    return Logins(clock)


def test_a_code_works_once(known):
    code, _ = known.make(ADA)

    assert ADA == known.use(code)
    with pytest.raises(Unauthorized):
        known.use(code)


def test_a_code_has_256_bits(known):
    assert 43 == len(known.make(ADA)[0])


def test_a_code_expires(known, clock):
    code, until = known.make(ADA)
    clock.at += CODE_S

    assert clock() == until
    with pytest.raises(Unauthorized):
        known.use(code)


@pytest.mark.parametrize("code", ["", "x" * 43, "\udcff", "é"])
def test_another_code_opens_nothing(known, code):
    known.make(ADA)

    with pytest.raises(Unauthorized):
        known.use(code)


def test_one_caller_cannot_push_out_the_links_of_another(known):
    code, _ = known.make(ADA)
    first, *_ = [known.make(BOB)[0] for _ in range(logins.MOST_OF_ONE + 1)]

    assert ADA == known.use(code)
    with pytest.raises(Unauthorized):
        known.use(first)


def test_no_code_is_kept_as_it_is(known):
    code, _ = known.make(ADA)

    assert code not in repr(vars(known))
