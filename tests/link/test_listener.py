"""The nodes' port, attacked: real TLS on loopback."""

import asyncio
import contextlib
import functools
import ssl

import pytest

from homeport.contract.container import LogLine
from homeport.contract.errors import Failure, Unauthorized
from homeport.contract.traffic import Public
from homeport.link import authority, frames, identity, listener, messages
from homeport.link.authority import Authority
from homeport.link.identity import Identity
from homeport.link.messages import (
    Answer,
    Beat,
    Call,
    Failed,
    Greeting,
    Hello,
    Join,
    Joined,
    Kept,
    Logs,
    Refused,
    Welcome,
)
from homeport.node.joined import dialing
from homeport.node.joined.place import USUAL, Address, Place
from tests.link.cluster import cluster as make_cluster
from tests.link.strangers import Peer, certified, connected
from tests.orders import order
from tests.waiting import until

HELLO = Hello(version=messages.VERSION, run="one")
NODE = Identity(name="a", id="a" * 32)


@pytest.fixture
async def cluster(tmp_path):
    async with make_cluster(tmp_path) as made:
        made.remote("a")
        yield made
        while Peer.open:
            peer = Peer.open.pop()
            peer.close()
            with contextlib.suppress(OSError):
                await peer.writer.wait_closed()


@pytest.fixture
def joined(cluster, tmp_path):
    """The TLS of a node that has joined."""
    cluster.registry.nodes["a"] = NODE.id
    return certified(cluster, NODE, tmp_path)


def where(cluster) -> Address:
    return Address(host="127.0.0.1", port=cluster.port)


def stranger(cluster) -> ssl.SSLContext:
    return identity.of_node(cluster.authority.certificate, None)


async def is_cut(peer: Peer) -> bool:
    async with asyncio.timeout(30):
        return await peer.end()


# joining


async def test_a_machine_joins_by_a_token_once_and_its_key_stays_there(cluster, tmp_path):
    place, text = Place(tmp_path / "n"), cluster.token()
    await dialing.join(place, where(cluster), "n", text)
    with pytest.raises(Unauthorized, match="was used"):
        await dialing.join(Place(tmp_path / "m"), where(cluster), "m", text)

    assert ("n", where(cluster), USUAL) == place.read()
    assert {"n"} == cluster.registry.nodes.keys()
    modes = {path.stat().st_mode & 0o777 for path in place.directory.iterdir()}
    assert ({0o600}, 0o700) == (modes, place.directory.stat().st_mode & 0o777)
    assert Place(tmp_path / "m").read() is None


async def test_a_name_that_is_taken_is_refused_and_the_token_is_still_good(cluster, tmp_path):
    cluster.registry.nodes["n"] = "b" * 32
    text = cluster.token()
    with pytest.raises(Unauthorized, match="there is a node `n`"):
        await dialing.join(Place(tmp_path / "n"), where(cluster), "n", text)
    await dialing.join(Place(tmp_path / "m"), where(cluster), "m", text)

    assert "b" * 32 == cluster.registry.nodes["n"]


async def test_an_attacker_in_between_never_sees_the_token(cluster, tmp_path):
    """Another control plane answers at the address: the machine compares its CA with the token's, and leaves."""
    async with make_cluster(tmp_path / "elsewhere") as other:
        asked: list[Join] = []

        async def join(message, _host):
            asked.append(message)
            return Joined(certificate="")

        other.listener._join = join
        with pytest.raises(Unauthorized, match="is not the homeport that the token is from"):
            await dialing.join(Place(tmp_path / "n"), where(other), "n", cluster.token())
        assert not asked

    assert not (tmp_path / "n").exists()


async def test_a_ca_with_the_right_fingerprint_and_another_key_is_no_control_plane(
    cluster, tmp_path
):
    """The attacker shows the real CA's certificate, which everybody may read, and has not its key."""
    async with make_cluster(tmp_path / "elsewhere") as other:
        other.authority._ca = cluster.authority._ca
        with pytest.raises(Failure, match="certificate verify failed"):
            await dialing.join(Place(tmp_path / "n"), where(other), "n", cluster.token())


async def test_a_second_ca_behind_the_right_one_is_not_trusted(cluster, tmp_path, monkeypatch):
    """The attacker's answer has two certificates: the real CA's, which the token names, and one with the attacker's key."""
    async with make_cluster(tmp_path / "elsewhere") as other:
        both = cluster.authority.pem + other.authority.pem
        monkeypatch.setattr(Authority, "pem", property(lambda _self: both))
        with pytest.raises(Failure, match="certificate verify failed"):
            await dialing.join(Place(tmp_path / "n"), where(other), "n", cluster.token())

    assert [] == list((tmp_path / "n" / "cluster").iterdir())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"token": "x"}, "this is not a token"),
        ({"token": f"homeport-node-{'0' * 64}-{'0' * 64}"}, "unknown"),
        ({"name": "here"}, "cannot be the name"),
        ({"name": "../x"}, "cannot be the name"),
        ({"csr": "x"}, "cannot be read"),
        ({"version": 99}, "speaks version 99"),
    ],
)
async def test_a_wrong_request_to_join_is_refused_with_the_reason(cluster, changes, why):
    peer = await connected(cluster, stranger(cluster))
    _, csr = authority.request()
    asked = {"version": messages.VERSION, "name": "n", "token": cluster.token(), "csr": csr}
    peer.say(Join(**asked | changes))

    assert why in (await peer.hear(Refused)).reason
    assert await is_cut(peer)
    assert {} == cluster.registry.nodes


async def test_a_node_may_ask_for_a_certificate_with_another_name_only_with_a_token(
    cluster, joined
):
    peer = await connected(cluster, joined)
    _, csr = authority.request()
    peer.say(Join(version=messages.VERSION, name="b", token="x", csr=csr))

    assert (await peer.hear(Refused)).final


# who may connect


@pytest.mark.parametrize(
    ("public", "said"),
    [
        (None, (0, 0, "")),
        (Public(host="0.0.0.0", http=80, https=443), (80, 443, "0.0.0.0")),
        (Public(host="10.0.0.1", http=8000), (8000, 0, "")),  # that address is not the node's
    ],
)
async def test_a_node_hears_where_visitors_come_in(cluster, joined, public, said):
    cluster.listener._welcome = functools.partial(Welcome, **listener.visitors(public))
    peer = await connected(cluster, joined)
    await peer.hear(Greeting)
    peer.say(HELLO)
    welcome = await peer.hear(Welcome)

    assert said == (welcome.http, welcome.https, welcome.visitors)


async def test_a_node_is_welcome_under_the_name_in_its_certificate(cluster, joined):
    peer = await connected(cluster, joined)
    assert (await peer.hear(Greeting)).ca == cluster.authority.pem
    peer.say(HELLO)

    assert "a" == (await peer.hear(Welcome)).name
    assert cluster.remote("a").connected.is_set()
    peer.close()
    await until(lambda: not cluster.remote("a").connected.is_set(), "the loss")


async def test_a_certificate_of_another_ca_ends_in_the_handshake(cluster, tmp_path):
    cluster.registry.nodes["a"] = NODE.id
    other = Authority(tmp_path / "other")
    other.open()
    peer = None
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        peer = await connected(cluster, certified(cluster, NODE, tmp_path, by=other))
        await peer.hear(Greeting)

    assert not cluster.remote("a").connected.is_set()


async def test_a_certificate_that_has_ended_ends_in_the_handshake(cluster, tmp_path):
    cluster.registry.nodes["a"] = NODE.id
    ended = certified(cluster, NODE, tmp_path, days=-0.01)
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        await (await connected(cluster, ended)).hear(Greeting)


async def test_a_connection_ends_with_its_certificate(cluster, tmp_path):
    cluster.registry.nodes["a"] = NODE.id
    peer = await connected(cluster, certified(cluster, NODE, tmp_path, days=2 / 86400))
    peer.say(HELLO)
    await peer.hear(Welcome)
    beating = asyncio.create_task(beats(peer))

    assert await is_cut(peer)
    beating.cancel()


async def beats(peer: Peer) -> None:
    while True:
        peer.say(Beat())
        await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.5)


async def test_a_certificate_is_renewed_over_the_connection_for_a_new_key(cluster, joined):
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await peer.hear(Welcome)
    _, csr = authority.request()
    peer.say(Call(number=1, name="renew", given={"csr": csr}))
    renewed = (await peer.hear(Answer)).value.encode()
    peer.say(Call(number=2, name="renew", given={"csr": "x"}))

    assert authority.renew_after(renewed)
    assert "cannot be read" in (await peer.hear(Failed)).failure["message"]


async def test_a_node_that_was_removed_is_cut_and_refused_for_ever(cluster, joined):
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await peer.hear(Welcome)
    del cluster.registry.nodes["a"]
    cluster.listener.remove("a")
    assert (await peer.hear(Refused)).final
    assert await is_cut(peer)
    again = await connected(cluster, joined)
    again.say(HELLO)

    refused = await again.hear(Refused)
    assert ("was removed" in refused.reason, refused.final) == (True, True)


async def test_a_node_that_was_removed_renews_nothing_before_it_is_cut(cluster, joined):
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await peer.hear(Welcome)
    del cluster.registry.nodes["a"]
    _, csr = authority.request()
    peer.say(Call(number=1, name="renew", given={"csr": csr}))

    assert "was removed" in (await peer.hear(Failed)).failure["message"]


async def test_an_older_certificate_of_a_node_that_has_joined_again_is_worth_nothing(
    cluster, joined
):
    cluster.registry.nodes["a"] = "b" * 32
    peer = await connected(cluster, joined)
    peer.say(HELLO)

    assert (await peer.hear(Refused)).final


async def test_the_control_planes_certificate_opens_nothing_as_a_nodes(cluster):
    context = identity.of_node(cluster.authority.certificate, cluster.authority.pair)
    peer = await connected(cluster, context)
    await peer.hear(Greeting)
    peer.say(HELLO)

    assert await peer.end()


async def test_a_nodes_certificate_is_no_control_planes(cluster, tmp_path):
    certified(cluster, NODE, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(next(tmp_path.glob("a-*.pem")))
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=stranger(cluster), server_hostname=identity.CONTROL
            )


async def test_only_tls_1_3_is_spoken(cluster):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cluster.authority.certificate)
    with pytest.raises((ssl.SSLError, OSError)):
        await connected(cluster, context)


async def test_a_connection_cannot_be_taken_up_again_without_its_certificate(cluster, joined):
    peer = await connected(cluster, joined)
    await peer.hear(Greeting)
    session = peer.writer.get_extra_info("ssl_object").session

    assert session is None or not session.has_ticket


async def test_bytes_that_are_no_text_are_replaced_whether_a_stranger_or_a_node_says_them(
    cluster, joined
):
    """The database and the log could not keep it."""
    peer = await connected(cluster, stranger(cluster))
    _, csr = authority.request()
    asked = {"version": messages.VERSION, "name": "n", "token": cluster.token(), "csr": csr}
    peer.say(Join(**asked, labels={"region": "a\0\ud800b"}))
    await peer.hear(Joined)
    assert {"region": "a??b"} == cluster.registry.labels["n"]

    said, remote = list[str](), cluster.remote("a")
    remote.watch(lambda _change: None, lambda line: said.append(line.text))
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await peer.hear(Welcome)
    await until(remote.connected.is_set, "the node")
    await remote.start(order("ta-1", source=""), {})
    line = LogLine(at=0.0, app="", function="", container="ta-1", text="a\0\ud800b")
    peer.say(Logs(number=0, lines=(line,)))
    await peer.hear(Kept)
    assert ["a??b"] == said


async def test_a_stranger_who_says_hello_is_cut(cluster):
    peer = await connected(cluster, stranger(cluster))
    peer.say(HELLO)

    assert await is_cut(peer)


@pytest.mark.parametrize(
    "sent", [b"\xff\xff\xff\xff", b"\0\1\0\1", b"\0\0\0\2{}", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_a_strangers_first_message_is_short_and_to_the_point(cluster, sent):
    peer = await connected(cluster, stranger(cluster))
    peer.writer.write(sent)

    assert await is_cut(peer)


async def test_a_handshake_that_never_comes_and_a_stranger_who_says_nothing_are_cut(
    cluster, monkeypatch
):
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.2)
    plain = Peer(*await asyncio.open_connection("127.0.0.1", cluster.port))
    silent = await connected(cluster, stranger(cluster))

    assert await is_cut(plain)
    assert await is_cut(silent)
    assert 0 == cluster.listener._strangers.total()


async def test_there_are_few_strangers_at_once_and_a_node_still_connects_after_them(
    cluster, joined, monkeypatch, caplog
):
    monkeypatch.setattr(listener, "MOST_OF_ONE_ADDRESS", 3)
    held = [Peer(*await asyncio.open_connection("127.0.0.1", cluster.port)) for _ in range(3)]
    await until(lambda: cluster.listener._strangers["127.0.0.1"] == 3, "three strangers")
    more = [Peer(*await asyncio.open_connection("127.0.0.1", cluster.port)) for _ in range(20)]
    assert all([await is_cut(peer) for peer in more])
    for peer in held:
        peer.close()
    await until(lambda: not cluster.listener._strangers.total(), "their end")
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await peer.hear(Welcome)

    assert 1 == caplog.text.count("too many connections at once")


# two agents with one certificate


async def test_a_second_agent_with_the_same_certificate_is_refused_while_the_first_answers(
    cluster, joined
):
    first = await connected(cluster, joined)
    first.say(HELLO)
    await first.hear(Welcome)
    second = await connected(cluster, joined)
    second.say(Hello(version=messages.VERSION, run="two"))
    asked = await first.hear(Call)
    first.say(Answer(number=asked.number, value={"run": "r", "number": 1}))

    assert "another agent is connected" in (await second.hear(Refused)).reason
    assert not cluster.remote("a").session.is_lost


async def test_a_first_agent_that_does_not_answer_gives_way(cluster, joined, monkeypatch):
    monkeypatch.setattr(listener, "PROBE_S", 0.1)
    first = await connected(cluster, joined)
    first.say(HELLO)
    await first.hear(Welcome)
    second = await connected(cluster, joined)
    second.say(Hello(version=messages.VERSION, run="two"))
    await second.hear(Welcome)

    assert await is_cut(first)
    assert cluster.remote("a").connected.is_set()


async def test_an_agent_that_connects_again_takes_its_own_place_at_once(cluster, joined):
    first = await connected(cluster, joined)
    first.say(HELLO)
    await first.hear(Welcome)
    second = await connected(cluster, joined)
    second.say(HELLO)
    await second.hear(Welcome)

    assert await is_cut(first)
    assert cluster.remote("a").connected.is_set()


async def test_an_agent_of_another_version_is_told_to_install_the_same_one(cluster, joined):
    peer = await connected(cluster, joined)
    peer.say(Hello(version=99, run="one"))

    refused = await peer.hear(Refused)
    assert ("the same version of homeport" in refused.reason, refused.final) == (True, False)


async def test_a_connection_that_is_half_open_is_given_up(cluster, joined, monkeypatch):
    monkeypatch.setitem(frames.read.__kwdefaults__, "silent_s", 0.3)
    peer = await connected(cluster, joined)
    peer.say(HELLO)
    await until(lambda: cluster.remote("a").connected.is_set(), "the connection")
    await until(lambda: not cluster.remote("a").connected.is_set(), "its end without a word")
