"""Which addresses are on the public internet, and which addresses a name has. It knows no URL.

The tables are of IANA's special-purpose registries (RFC 6890) and not Python's `is_global`, whose answers changed from
release to release.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from threading import Thread

Address = IPv4Address | IPv6Address

Resolve = Callable[[str], tuple[Address, ...]]
"""The addresses of a name, at least one. Raises OSError: it has none, or nobody said so in time."""

_SECONDS = 3.0

_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, where clouds keep services of their own
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public number, behind which Azure's host answers its machines
            "169.254.0.0/16",  # link-local, and every cloud's metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols' own; Teredo, which hides an IPv4 address, among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which hides an IPv4 address
            "3ffe::/16",  # the 6bone of old
            "3fff::/20",  # documentation
        ),
    )
)
# The last 32 bits are an IPv4 address, which is reached: by the kernel, or by the translator of a network without it.
_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def is_public(address: Address) -> bool:
    """Whether an address, and the one that it stands for, is of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if any(address in network for network in _EMBEDDING):
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)


def resolve(name: str) -> tuple[Address, ...]:
    """The addresses of a name, as the system knows it.

    In a thread, because the system's resolver cannot be told how long it may take; it ends by itself.

    Raises:
        OSError: it has none, or nobody said so in time.
    """
    answers: SimpleQueue[tuple[Address, ...] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            answers.put(tuple(dict.fromkeys(ip_address(entry[4][0]) for entry in found)))
        except OSError as error:
            answers.put(error)

    Thread(target=ask, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=_SECONDS)
    except Empty:
        raise TimeoutError("the resolver took too long") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
