"""Links, addresses and routes: the few messages of man 7 rtnetlink that a cell's network needs.

Inside a cell there may be no `ip`, and three processes of it take 11 ms where these messages take one.
Each function raises `OSError` with the kernel's errno.
"""

import os
import socket
import struct

# linux/rtnetlink.h, linux/if_link.h, linux/veth.h
NEW_LINK, DELETE_LINK, NEW_ADDRESS, NEW_ROUTE = 16, 17, 20, 24
REQUEST, ACKNOWLEDGE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x200, 0x400
IFNAME, LINKINFO, NET_NS_FD = 3, 18, 28
INFO_KIND, INFO_DATA, VETH_PEER = 1, 2, 1
LOCAL, ADDRESS = 2, 1
OUTPUT_LINK, GATEWAY = 4, 5
UP = 1
MAIN_TABLE, STATIC, UNIVERSE, UNICAST = 254, 4, 0, 1
ERROR = 2


def add_pair(name: str, peer: str) -> None:
    """Add two interfaces that are the ends of one cable (man 4 veth)."""
    end = _link() + _text(IFNAME, peer)
    info = _text(INFO_KIND, "veth") + _attribute(INFO_DATA, _attribute(VETH_PEER, end))
    body = _link() + _text(IFNAME, name) + _attribute(LINKINFO, info)
    _ask(NEW_LINK, CREATE | EXCLUSIVE, body, f"add the link {name}")


def move(name: str, namespace: int, renamed: str) -> None:
    """Move an interface into the network namespace of a descriptor, with another name."""
    body = _link(socket.if_nametoindex(name)) + _text(IFNAME, renamed)
    body += _attribute(NET_NS_FD, struct.pack("=I", namespace))
    _ask(NEW_LINK, 0, body, f"move the link {name}")


def up(name: str) -> None:
    """Switch an interface on."""
    body = _link(socket.if_nametoindex(name), flags=UP)
    _ask(NEW_LINK, 0, body, f"switch the link {name} on")


def delete(name: str) -> None:
    """Remove an interface, and the other end of its cable."""
    _ask(DELETE_LINK, 0, _link(socket.if_nametoindex(name)), f"delete the link {name}")


def add_address(name: str, address: str, prefix: int) -> None:
    """Give an interface an IPv4 address."""
    packed = socket.inet_aton(address)
    head = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, UNIVERSE, socket.if_nametoindex(name))
    body = head + _attribute(LOCAL, packed) + _attribute(ADDRESS, packed)
    _ask(NEW_ADDRESS, CREATE | EXCLUSIVE, body, f"give {name} the address {address}")


def add_default_route(name: str, gateway: str) -> None:
    """Add a default route: packets for other networks go to a gateway."""
    head = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, MAIN_TABLE, STATIC, UNIVERSE, UNICAST, 0
    )
    index = struct.pack("=I", socket.if_nametoindex(name))
    body = head + _attribute(GATEWAY, socket.inet_aton(gateway)) + _attribute(OUTPUT_LINK, index)
    _ask(NEW_ROUTE, CREATE | EXCLUSIVE, body, f"route by {gateway}")


def _link(index: int = 0, *, flags: int = 0) -> bytes:
    """Return a struct ifinfomsg; only the `flags` given change."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * padding


def _ask(kind: int, flags: int, body: bytes, what: str) -> None:
    head = struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST | ACKNOWLEDGE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as route:
        route.send(head + body)
        answer = route.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] != ERROR:
        raise OSError(0, "the kernel answered something else", what)
    errno = -struct.unpack_from("=i", answer, 16)[0]
    if errno:
        raise OSError(errno, os.strerror(errno), what)
