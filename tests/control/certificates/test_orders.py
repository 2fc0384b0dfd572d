"""Decisions about orders: a table of cases, and promises that hold in every situation."""

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.contract.hosts import covers
from homeport.control.certificates import orders
from homeport.control.certificates.hosts import registered
from homeport.control.certificates.orders import DAY_S, HOUR_S
from homeport.control.certificates.situation import (
    WEEK_S,
    Held,
    Issued,
    Kind,
    Limits,
    Method,
    Policy,
    Situation,
    Tried,
)

NOW = 1_800_000_000.0
HTTP = Policy(domain="apps.test", wildcards=False)
DNS = Policy(domain="apps.test", wildcards=True)


def situation(**values) -> Situation:
    empty = {"wanted": {}, "held": [], "tried": {}, "issued": [], "running": [], "now": NOW}
    return Situation(**{**empty, **values})


def held(*hosts: str, age_s: float = 0.0, lifetime_s: float = 90 * DAY_S, **values) -> Held:
    name = orders.name_of(hosts)
    start = NOW - age_s
    return Held(name=name, hosts=hosts, not_before=start, not_after=start + lifetime_s, **values)


def main(*hosts: str) -> dict[str, Kind]:
    return dict.fromkeys(hosts, Kind.MAIN)


def ordered(situation: Situation, policy: Policy = HTTP) -> list[tuple[str, ...]]:
    return [order.hosts for order in orders.decide(situation, policy).orders]


def test_each_host_gets_a_certificate_of_its_own_over_http():
    assert [("a.apps.test",), ("shop.test",)] == ordered(
        situation(wanted=main("a.apps.test", "shop.test"))
    )


def test_with_dns_one_wildcard_serves_all_hosts_below_the_domain():
    wanted = main("a.apps.test", "b.apps.test", "apps.test", "shop.test")

    assert [("apps.test", "*.apps.test"), ("shop.test",)] == ordered(situation(wanted=wanted), DNS)
    assert Method.DNS is orders.method("apps.test", DNS)
    assert Method.HTTP is orders.method("shop.test", DNS)
    assert Method.HTTP is orders.method("apps.test", HTTP)


def test_an_attached_wildcard_serves_the_hosts_below_it():
    wanted = main("*.shop.test", "a.shop.test", "shop.test")

    assert [("*.shop.test",), ("shop.test",)] == ordered(situation(wanted=wanted), DNS)


def test_a_wildcard_without_dns_waits_and_says_why():
    decision = orders.decide(situation(wanted=main("*.shop.test")), HTTP)

    assert () == decision.orders
    assert "DNS-01" in decision.waiting["*.shop.test"]


def test_a_host_whose_certificate_is_held_or_ordered_is_not_ordered_again():
    running = [orders.name_of(["b.test"])]

    assert [] == ordered(
        situation(wanted=main("a.test", "b.test"), held=[held("a.test")], running=running)
    )


def test_a_certificate_is_renewed_after_two_thirds_of_its_lifetime_and_keeps_its_name():
    old = held("a.test", age_s=60 * DAY_S)
    (order,) = orders.decide(situation(wanted=main("a.test"), held=[old]), HTTP).orders
    young = held("a.test", age_s=55 * DAY_S)

    assert (old.name, True) == (order.name, order.renewal)
    assert [] == ordered(situation(wanted=main("a.test"), held=[young]))
    assert [("a.test",)] == ordered(
        situation(wanted=main("a.test"), held=[replace(young, renew_now=True)])
    )


def test_an_expired_certificate_is_renewed():
    assert [("a.test",)] == ordered(
        situation(wanted=main("a.test"), held=[held("a.test", age_s=100 * DAY_S)])
    )


def test_a_host_that_is_not_wanted_leaves_its_certificate_at_the_next_renewal():
    old = held("a.apps.test", "b.apps.test", age_s=70 * DAY_S)
    (order,) = orders.decide(situation(wanted=main("b.apps.test"), held=[old]), HTTP).orders

    assert (("b.apps.test",), False) == (order.hosts, order.renewal)


def test_a_certificate_that_nobody_wants_is_kept_for_a_week_and_not_renewed():
    old = held("a.test", age_s=70 * DAY_S)
    first = orders.decide(situation(held=[old]), HTTP)
    later = orders.decide(situation(held=[replace(old, unwanted_since=NOW - DAY_S)]), HTTP)
    last = orders.decide(situation(held=[replace(old, unwanted_since=NOW - WEEK_S)]), HTTP)

    assert ((), (old.name,), ()) == (first.orders, first.unwanted, first.removed)
    assert ((), (), ()) == (later.orders, later.unwanted, later.removed)
    assert NOW + 6 * DAY_S == later.look_at
    assert (old.name,) == last.removed


def test_a_host_that_is_wanted_again_keeps_its_certificate():
    old = held("a.test", unwanted_since=NOW - DAY_S)
    decision = orders.decide(situation(wanted=main("a.test"), held=[old]), HTTP)

    assert ((old.name,), ()) == (decision.wanted_again, decision.orders)


def test_single_certificates_stay_until_the_wildcard_is_there():
    single, star = held("a.apps.test"), held("apps.test", "*.apps.test")
    wanted = main("a.apps.test")

    assert () == orders.decide(situation(wanted=wanted, held=[single]), DNS).unwanted
    assert (single.name,) == orders.decide(
        situation(wanted=wanted, held=[single, star]), DNS
    ).unwanted


def test_a_failed_host_waits_twice_as_long_each_time():
    tried, waits = None, []
    for _ in range(12):
        tried = orders.after_failure(tried, "a.test", NOW, validated=False)
        waits.append(tried.next_at - NOW)

    assert waits[0] < 75
    assert all(first < second for first, second in itertools.pairwise(waits[:10]))
    assert waits[-1] <= 12 * HOUR_S * 1.2


def test_the_ca_is_obeyed_when_it_says_later():
    tried = orders.after_failure(None, "a.test", NOW, validated=True, not_before=NOW + DAY_S)
    paused = orders.decide(situation(wanted=main("b.test"), paused_until=NOW + 5), HTTP)

    assert NOW + DAY_S == tried.next_at
    assert ((), NOW + 5) == (paused.orders, paused.look_at)


def test_many_hosts_share_certificates_where_the_weekly_limit_leaves_too_few():
    wanted = main(*(f"h{n:03}.apps.test" for n in range(230)))
    hosts_of_orders = ordered(situation(wanted=wanted))

    assert [100, 100, 30] == [len(hosts) for hosts in hosts_of_orders]


def test_old_versions_leave_room_for_new_apps():
    issued = [Issued(hosts=(f"h{n}.apps.test",), at=NOW - DAY_S, renewal=False) for n in range(20)]
    wanted = {"old.apps.test": Kind.VERSION, "new.apps.test": Kind.MAIN}

    assert [("new.apps.test",)] == ordered(situation(wanted=wanted, issued=issued))


def test_renewals_do_not_count_for_the_domain():
    issued = [Issued(hosts=(f"h{n}.apps.test",), at=NOW - DAY_S, renewal=True) for n in range(60)]

    assert [("a.apps.test",)] == ordered(situation(wanted=main("a.apps.test"), issued=issued))


def test_orders_that_a_wrong_clock_dated_in_the_future_count_for_no_limit():
    later = NOW + 1000 * DAY_S
    issued = [Issued(hosts=("a.test",), at=later, renewal=False) for _ in range(60)]
    tried = {"a.test": Tried(failures=5, failed_at=(later,) * 5, next_at=later, retry_at=later)}
    now = situation(
        wanted=main("a.test"), issued=issued, tried=tried, paused_until=later, asked_until=later
    )

    assert [("a.test",)] == ordered(now)


def test_a_certificate_that_nobody_wanted_in_the_future_goes_a_week_from_now():
    old = held("a.test", unwanted_since=NOW + 1000 * DAY_S)

    assert (old.name,) == orders.decide(situation(held=[old]), HTTP).unwanted


def test_an_hour_is_between_two_orders_if_each_new_certificate_seems_old():
    old = held("a.test", age_s=100 * DAY_S)  # by a clock that is 100 days ahead of the CA's
    issued = [Issued(hosts=("a.test",), at=NOW - 60, renewal=False)]
    now = situation(wanted=main("a.test"), held=[old], issued=issued)

    decision = orders.decide(now, HTTP)
    assert ((), NOW - 60 + HOUR_S) == (decision.orders, decision.look_at)
    assert [("a.test",)] == ordered(replace(now, now=NOW + HOUR_S))
    assert [("a.test",)] == ordered(replace(now, held=[replace(old, renew_now=True)]))


def test_another_ca_replaces_a_certificate_by_its_name_and_that_is_no_renewal():
    old = held("a.test", foreign=True)
    (order,) = orders.decide(situation(wanted=main("a.test"), held=[old]), HTTP).orders

    assert (old.name, ("a.test",), False) == (order.name, order.hosts, order.renewal)


def test_a_wildcard_of_another_ca_counts_for_no_host_that_it_cannot_be_renewed_for():
    star = held("*.apps.test", foreign=True)
    now = situation(wanted=main("a.apps.test"), held=[star])

    assert [("a.apps.test",)] == ordered(now)
    assert () == orders.decide(now, HTTP).unwanted  # until the host has its own


def test_hosts_below_a_top_level_share_no_wildcard():
    policy = Policy(domain="localhost", wildcards=True, kept_s=0.0)
    now = situation(wanted=main("a.localhost", "*.shop.test", "b.shop.test"), held=[held("old")])

    assert [("*.shop.test",), ("a.localhost",)] == sorted(ordered(now, policy))
    assert (held("old").name,) == orders.decide(now, policy).removed  # nothing is kept here


HOSTS = [f"h{n}.apps.test" for n in range(6)] + [
    "apps.test",
    "shop.test",
    "a.shop.test",
    "*.shop.test",
]
hosts = st.sampled_from(HOSTS)
situations = st.builds(
    situation,
    wanted=st.dictionaries(hosts, st.sampled_from(list(Kind))),
    held=st.lists(
        st.builds(
            held,
            hosts,
            age_s=st.floats(0, 120 * DAY_S),
            unwanted_since=st.none() | st.floats(NOW - 2 * WEEK_S, NOW),
            renew_now=st.booleans(),
            foreign=st.booleans(),
        ),
        unique_by=lambda certificate: certificate.name,
    ),
    tried=st.dictionaries(
        hosts,
        st.builds(
            Tried,
            failures=st.integers(1, 20),
            failed_at=st.lists(st.floats(NOW - 2 * HOUR_S, NOW), max_size=8).map(
                lambda times: tuple(sorted(times))
            ),
            next_at=st.floats(NOW - DAY_S, NOW + 14 * HOUR_S),
            retry_at=st.just(0.0) | st.floats(NOW - DAY_S, NOW + WEEK_S),
        ),
    ),
    issued=st.lists(
        st.builds(
            Issued,
            hosts=st.tuples(hosts),
            at=st.floats(NOW - 2 * WEEK_S, NOW),
            renewal=st.booleans(),
        ),
        max_size=12,
    ),
    running=st.lists(hosts.map(lambda host: orders.name_of([host])), unique=True, max_size=6),
    paused_until=st.just(0.0) | st.floats(NOW - DAY_S, NOW + HOUR_S),
    asked_until=st.just(0.0) | st.floats(NOW - DAY_S, NOW + WEEK_S),
)
policies = st.builds(
    Policy,
    domain=st.just("apps.test"),
    wildcards=st.booleans(),
    limits=st.builds(
        Limits,
        per_domain=st.integers(2, 8),
        per_set=st.integers(1, 3),
        failures=st.integers(1, 3),
        names=st.integers(1, 4),
    ),
)


@given(situations, policies)
def test_no_decision_breaks_a_limit_of_the_ca_or_a_pause(now, policy):
    decision = orders.decide(now, policy)

    limits = policy.limits
    fresh: dict[str, int] = {}
    for order in decision.orders:
        assert 1 <= len(order.hosts) <= max(limits.names, 2)
        assert max(now.paused_until, now.asked_until) <= NOW
        assert order.name not in now.running
        same = [i for i in now.issued if set(i.hosts) == set(order.hosts) and i.at > NOW - WEEK_S]
        assert len(same) < limits.per_set
        for host in order.hosts:
            tried = now.tried.get(host, Tried(failures=0, failed_at=(), next_at=0.0))
            assert max(tried.next_at, tried.retry_at) <= NOW
            assert len([at for at in tried.failed_at if at > NOW - HOUR_S]) < limits.failures
        for domain in {registered(host) for host in order.hosts}:
            fresh[domain] = fresh.get(domain, 0) + (not order.renewal)
    for domain, count in fresh.items():
        before = [
            i
            for i in now.issued
            if any(registered(host) == domain for host in i.hosts)
            and not i.renewal
            and i.at > NOW - WEEK_S
        ]
        assert count == 0 or len(before) + count <= limits.per_domain
    assert len(decision.orders) + len(now.running) <= max(orders.AT_ONCE, len(now.running))
    assert len({order.name for order in decision.orders}) == len(decision.orders)


@given(situations, policies)
def test_every_wanted_host_is_held_ordered_running_or_has_a_reason_to_wait(now, policy):
    decision = orders.decide(now, policy)

    have = [host for held in now.held for host in held.hosts]
    have += [host for order in decision.orders for host in order.hosts]
    for host in orders.needed(now.wanted, policy):
        runs = any(orders.name_of([host]) in now.running for host in HOSTS)
        assert covers([*have, *decision.waiting], host) or runs
    removed = {held.name: held for held in now.held if held.name in decision.removed}
    kept = [h for held in now.held if held.name not in removed for h in held.hosts]
    for host in now.wanted:
        lost = covers([h for held in removed.values() for h in held.hosts], host)
        assert not lost or covers(kept, host)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(hosts, st.sampled_from(list(Kind)), min_size=1), st.booleans())
def test_in_a_year_no_certificate_expires_and_each_is_renewed_six_times_at_most(wanted, dns):
    policy = Policy(domain="apps.test", wildcards=dns)
    now, certificates, issued, expired = NOW, {}, [], 0
    while now < NOW + 365 * DAY_S:
        decision = orders.decide(
            situation(wanted=wanted, held=list(certificates.values()), issued=issued, now=now),
            policy,
        )
        for order in decision.orders:
            certificates[order.name] = Held(
                name=order.name,
                hosts=order.hosts,
                not_before=now,
                not_after=now + 90 * DAY_S,
                serial=str(now),
            )
            issued.append(Issued(hosts=order.hosts, at=now, renewal=order.renewal))
        expired += sum(certificate.not_after <= now for certificate in certificates.values())
        now = now + 1 if decision.orders else decision.look_at

    needed = [h for h in orders.needed(wanted, policy) if dns or not h.startswith("*.")]
    assert 0 == expired
    assert len(issued) <= 7 * max(1, len(needed))
    assert all(covers([h for c in certificates.values() for h in c.hosts], n) for n in needed)
