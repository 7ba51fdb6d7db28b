"""Personal data and secrets at rest: encrypted with a key id, searched by a blind index under another key."""

from kit.crypto import Keyring

_keyring: Keyring | None = None


def configure(keyring: Keyring) -> None:
    """Give this process its keys; done once at start, before anything is read."""
    global _keyring
    _keyring = keyring


def _keys() -> Keyring:
    if _keyring is None:
        raise RuntimeError("the keyring is not configured")
    return _keyring


def encrypt(plaintext: str, context: str) -> str:
    """What to store of ``plaintext``; ``context`` names its place (``table.column``) and is needed to read it."""
    return _keys().encrypt(plaintext, context)


def decrypt(stored: str, context: str) -> str:
    """The plaintext; raises kit.crypto.Undecipherable for a foreign, changed or moved value."""
    return _keys().decrypt(stored, context)


def blind_index(plaintext: str, context: str) -> str:
    """What to search by: equal values have equal indexes."""
    return _keys().blind_index(plaintext, context)
