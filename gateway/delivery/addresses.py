"""Which addresses a webhook may lead to: those of the public internet.

Whoever may set a webhook could otherwise have the gateway call what only it can reach: services on
its own machine, its network, the metadata of its cloud with the credentials in it.

By the registries of special-purpose addresses (iana.org/assignments/iana-ipv4-special-registry and
iana-ipv6-special-registry, of 2025), not by `ipaddress.is_global`, whose answers changed between
releases of Python. IPv6 is public within 2000::/3 alone, so that IPv4-mapped addresses, NAT64
(64:ff9b::/96), unique local and link-local ones are refused without being named.
"""

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

_REFUSED_V4: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network, and the unspecified address
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata are at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host: public by its number, and metadata
        "169.254.0.0/16",  # link-local, metadata of most clouds among them
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata are at 192.0.0.192
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_V6: Final = ip_network("2000::/3")
_REFUSED_V6: Final = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments; Teredo, which holds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",
    )
)


def is_public(text: str) -> bool:
    """Tell whether an address, as a resolver gives it, is one of the public internet."""
    try:
        # A zone is the name of an interface of this machine: fe80::1%eth0.
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address.scope_id is not None or address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _REFUSED_V6)
