"""From where a request comes: nobody escapes a limit, or gets somebody else into one, by what they write."""

import pytest
from pydantic import ValidationError

from server.address import origin, read_address, read_networks
from server.settings import Settings

PROXY = read_networks("10.0.0.0/8, ::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "found"),
    [
        ("203.0.113.7", [], (), "203.0.113.7"),
        # Nobody is trusted: what is written is not read.
        ("203.0.113.7", ["198.51.100.1"], (), "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], PROXY, "203.0.113.7"),
        # The proxy appends whom it heard from; what stands before is the client's own invention.
        ("10.0.0.2", ["198.51.100.1"], PROXY, "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4, 198.51.100.1"], PROXY, "198.51.100.1"),
        ("10.0.0.2", ["1.2.3.4", "198.51.100.1"], PROXY, "198.51.100.1"),
        # Two proxies of ours; and a client that pretends to be one of them in front.
        ("10.0.0.2", ["1.2.3.4, 198.51.100.1, 10.0.0.3"], PROXY, "198.51.100.1"),
        ("10.0.0.2", ["10.0.0.9, 198.51.100.1"], PROXY, "198.51.100.1"),
        # The proxy says nothing, or nothing that can be read: then it is all that is known.
        ("10.0.0.2", [], PROXY, "10.0.0.2"),
        ("10.0.0.2", [""], PROXY, "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4, unknown"], PROXY, "10.0.0.2"),
        ("10.0.0.2", ["198.51.100.1:4711"], PROXY, "198.51.100.1"),
        ("10.0.0.2", ["[2001:db8:1:2:3:4:5:6]:4711"], PROXY, "2001:db8:1:2::/64"),
        # A household has a /64 of its own: all of it is one caller, the next one is another.
        ("2001:db8:1:2::1", [], (), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", [], (), "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", [], (), "2001:db8:1:3::/64"),
        ("[::1]", ["2001:db8:1:2::1"], PROXY, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", [], (), "203.0.113.7"),
        ("fe80::1%eth0", [], (), "fe80::/64"),
        ("", [], (), "unknown"),
    ],
)
def test_whose_limit_it_is(peer: str, forwarded: list[str], trusted: tuple, found: str) -> None:
    assert origin(peer, forwarded, trusted) == found


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4.5", "::g", "1.2.3.4/8", "１.2.3.4", "-", "a:b:c"])
def test_what_is_no_address(text: str) -> None:
    assert read_address(text) is None


def test_the_proxies_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().trusted_proxies == ()  # type: ignore[call-arg]
    monkeypatch.setenv("LINLI_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert Settings().trusted_proxies == PROXY  # type: ignore[call-arg]
    monkeypatch.setenv("LINLI_TRUSTED_PROXIES", "10.0.0.0/8, the balancer")
    with pytest.raises(ValidationError, match="LINLI_TRUSTED_PROXIES"):
        Settings()  # type: ignore[call-arg]
