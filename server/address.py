"""From where a request comes: the socket's peer, or what a proxy that is trusted says of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HOUSEHOLD = 64  # the shortest prefix that one customer is given of IPv6: within it an address is a matter of taste


def read_networks(text: str) -> tuple[Network, ...]:
    """``10.0.0.0/8, ::1`` as networks; ValueError for anything else."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def read_address(text: str) -> Address | None:
    """The address in a part of X-Forwarded-For, with or without a port; None where there is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def origin(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who shares a limit: an IPv4 address, or the /64 of an IPv6 one.

    ``forwarded`` are the values of X-Forwarded-For in order. Each proxy appends whom it heard from, so only the end of
    the list is the word of a proxy of ours: it is read from there for as long as it names trusted ones, and what they
    heard from is believed. What stands before that anybody can have written.
    """
    found = read_address(peer)
    if found is None:
        return "unknown"
    parts = [part for value in forwarded for part in value.split(",")]
    while parts and any(found in network for network in trusted):
        before = read_address(parts.pop())
        if before is None:
            break
        found = before
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _HOUSEHOLD), strict=False))
    return str(found)
