"""A way out for cells that have a network of their own.

As root: a cable (veth) from the host into each cell, made ahead of time, each with two addresses of its
own, and a firewall that lets a cell reach the world, but neither the host nor another cell. An ordinary
user may not make a cable to the host; `pasta` (or `slirp4netns`) passes on what a cell sends.

IPv4 only. The node calls this module; `connect` runs inside the cell, before its seal.
"""

import ipaddress
import shutil
import subprocess

from homeport.cell import netlink
from homeport.cell.identity import FIRST_ID
from homeport.contract.dataclass import dataclass

PREFIX = "hp"  # of the host's ends: `hp0`, `hp1` …
INSIDE = "eth0"
SUBNET = "10.201.0.0/16"  # room for 32768 cables
TABLE = "homeport"
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
#: Where clouds tell a machine its credentials: link-local addresses, Alibaba's, Azure's. Their resolvers may be there, too.
METADATA = ("169.254.0.0/16", "100.100.100.200", "168.63.129.16")
METADATA_6 = ("fd00:ec2::254", "fd20:ce::254")  # Amazon's, Google's


@dataclass(frozen=True, slots=True)
class Cable:
    """A link between the host and one cell, by its number."""

    number: int
    subnet: str = SUBNET

    @property
    def name(self) -> str:
        """The name of the host's end."""
        return f"{PREFIX}{self.number}"

    @property
    def gateway(self) -> str:
        """The host's address on the cable."""
        return str(ipaddress.ip_network(self.subnet)[2 * self.number])

    @property
    def address(self) -> str:
        """The cell's address on the cable."""
        return str(ipaddress.ip_network(self.subnet)[2 * self.number + 1])


def lay(cable: Cable) -> None:
    """Make a cable ahead of time, with both ends on the host. Root only."""
    netlink.add_pair(cable.name, f"{cable.name}-in")
    netlink.add_address(cable.name, cable.gateway, 31)  # two addresses suffice (RFC 3021)
    netlink.up(cable.name)


def plug(cable: Cable, namespace: int) -> None:
    """Put the other end into a cell, by a descriptor of its network namespace. Root only."""
    netlink.move(f"{cable.name}-in", namespace, INSIDE)


def connect(cable: Cable) -> None:
    """Set the address and the default route; called inside the cell once its end of the cable is there."""
    netlink.add_address(INSIDE, cable.address, 31)
    netlink.up(INSIDE)
    netlink.add_default_route(INSIDE, cable.gateway)


def remove(cable: Cable) -> None:
    """Remove a cable; the kernel removes it by itself when its cell ends."""
    netlink.delete(cable.name)


def rules(subnet: str = SUBNET, first_id: int = FIRST_ID) -> str:
    """Return the firewall's rules, in nft's language (man 8 nft); they replace those of an earlier
    server.

    The chain `own` is for cells with the host's network: it refuses them, by their ids, the
    addresses where clouds give a machine its credentials.
    """
    cells = f"meta skuid {first_id}-{first_id + 65535}"
    return f"""table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain leave {{
    type nat hook postrouting priority srcnat
    ip saddr {subnet} oifname != "{PREFIX}*" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter
    iifname "{PREFIX}*" ip saddr != {subnet} drop
    iifname "{PREFIX}*" oifname "{PREFIX}*" drop
    iifname "{PREFIX}*" ip daddr 169.254.0.0/16 drop
    oifname "{PREFIX}*" ct state established,related accept
    oifname "{PREFIX}*" drop
  }}
  chain input {{
    type filter hook input priority filter
    iifname "{PREFIX}*" ct state established,related accept
    iifname "{PREFIX}*" drop
  }}
  chain own {{
    type filter hook output priority filter
    {cells} ip daddr {{ {", ".join(METADATA)} }} meta l4proto {{ tcp, udp }} th dport != 53 reject
  }}
}}
table ip6 {TABLE}
delete table ip6 {TABLE}
table ip6 {TABLE} {{
  chain own {{
    type filter hook output priority filter
    {cells} ip6 daddr {{ {", ".join(METADATA_6)} }} meta l4proto {{ tcp, udp }} th dport != 53 reject
  }}
}}
"""


def guard(subnet: str = SUBNET) -> None:
    """Set the firewall up. Root only; `OSError` without `nft`."""
    result = subprocess.run(
        ["nft", "-f", "-"], input=rules(subnet), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise OSError(1, result.stderr.strip() or "it failed", "nft")


def open_gate(subnet: str = SUBNET) -> None:
    """Set the firewall up and let the kernel forward. Root only; `OSError` without `nft`."""
    guard(subnet)
    with open(FORWARDING, "w", encoding="ascii") as file:
        file.write("1")


def helper(network: str, users: str) -> list[str] | None:
    """Return the command that connects an ordinary user's cell to the network; None if neither
    program is installed.

    `network` and `users` are paths of its namespaces (/proc/PID/ns/net, /proc/PID/ns/user). The caller
    ends the program with the cell. By default both programs open the host's loopback; here they do not.
    """
    if pasta := shutil.which("pasta"):
        ports = [word for option in "tuTU" for word in (f"-{option}", "none")]
        return [
            *(pasta, "--foreground", "--quiet", "--config-net", "--no-map-gw", "--ipv4-only"),
            *(*ports, "--userns", users, "--netns", network),
        ]
    if slirp := shutil.which("slirp4netns"):
        options = ["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]
        return [slirp, *options, f"--userns-path={users}", network, "tap0"]
    return None
