"""Personal data and secrets at rest: encrypted with a key id, searched by a blind index under another key."""

from kit.crypto import Keyring

_keyring: Keyring | None = None


def configure(keyring: Keyring) -> None:
    """Give this process its keys; done once at start, before anything is read."""
    global _keyring
    _keyring = keyring


def keyring() -> Keyring:
    """The keys of this process."""
    if _keyring is None:
        raise RuntimeError("the keyring is not configured")
    return _keyring


def encrypt(plaintext: str, context: str) -> str:
    """What to store of ``plaintext``; ``context`` names its place (``table.column``) and is needed to read it."""
    return keyring().encrypt(plaintext, context)


def decrypt(stored: str, context: str) -> str:
    """The plaintext; raises kit.crypto.Undecipherable for a foreign, changed or moved value."""
    return keyring().decrypt(stored, context)


def blind_index(plaintext: str, context: str) -> str:
    """What to store beside a value to find it by: equal values have equal indexes."""
    return keyring().blind_index(plaintext, context)


def blind_indexes(plaintext: str, context: str) -> list[str]:
    """What to search by: the value's index under each key, because a row may still have that of the last one."""
    return list(keyring().blind_indexes(plaintext, context))
