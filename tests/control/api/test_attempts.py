"""Which addresses have sent too many wrong tokens."""

from homeport.control.api import attempts
from homeport.control.api.attempts import MOST, WINDOW_S, WrongTokens


def counted(source, now=lambda: 0.0):
    wrong = WrongTokens(now)
    told = [wrong.add(source) for _ in range(MOST)]
    assert [False] * (MOST - 1) + [True] == told
    return wrong


def test_an_address_is_blocked_until_its_minute_is_over():
    now = [100.0]
    wrong = counted("192.0.2.1", lambda: now[0])

    assert WINDOW_S == wrong.blocked_s("192.0.2.1")
    assert 0 == wrong.blocked_s("192.0.2.2")
    now[0] += WINDOW_S
    assert 0 == wrong.blocked_s("192.0.2.1")
    assert not wrong.add("192.0.2.1")
    assert 0 == wrong.blocked_s("192.0.2.1")


def test_a_visitor_has_a_whole_network_of_ipv6_and_one_address_of_ipv4():
    wrong = counted("2001:db8::1")
    assert wrong.blocked_s("2001:db8::ffff")
    assert not wrong.blocked_s("2001:db8:0:1::1")

    wrong = counted("::ffff:192.0.2.1")
    assert wrong.blocked_s("192.0.2.1")
    assert not wrong.blocked_s("::ffff:192.0.2.2")


def test_only_so_many_addresses_are_remembered(monkeypatch):
    monkeypatch.setattr(attempts, "ADDRESSES", 2)
    wrong = counted("192.0.2.1")
    wrong.add("192.0.2.2")
    wrong.add("192.0.2.3")

    assert not wrong.blocked_s("192.0.2.1")
