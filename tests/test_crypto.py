"""Fields at rest, blind indexes, token hashes. Signatures and AES-GCM vectors are in test_wechat_vectors.py."""

import base64
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.crypto import (
    Keyring,
    Undecipherable,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    index_key_id_of,
    key_id_of,
    load_private_key,
    token_hash,
)

RING = Keyring({"k1": b"1" * 32, "k2": b"2" * 32}, "k2", b"i" * 32)
OLD = Keyring({"k1": b"1" * 32}, "k1", b"i" * 32)


@pytest.mark.parametrize(
    ("keys", "current", "index_key"),
    [
        ({}, "k1", b"i" * 32),
        ({"k1": b"1" * 32}, "k2", b"i" * 32),
        ({"k1": b"1" * 16}, "k1", b"i" * 32),
        ({"k1": b"1" * 32, "k2": b""}, "k1", b"i" * 32),
        ({"k1": b"1" * 32}, "k1", b"i" * 31),
    ],
)
def test_a_weak_keyring_is_refused(keys: dict[str, bytes], current: str, index_key: bytes) -> None:
    with pytest.raises(ValueError):
        Keyring(keys, current, index_key)


def changed(stored: str) -> str:
    head, _, packed = stored.rpartition(".")
    raw = bytearray(base64.b64decode(packed))
    raw[-1] ^= 1
    return f"{head}.{base64.b64encode(bytes(raw)).decode()}"


SEALED = RING.encrypt("13800001234", "customers.phone")


@pytest.mark.parametrize(
    "stored",
    [
        "", ".", "..", "v1", "v1.k2", "v1.k2.", "v1.k2.AAAA", "v1.k2.!!!!", "v1.k2.中文", "v2" + SEALED[2:],
        SEALED.replace("k2", "k1"), SEALED.replace("k2", "k3"), SEALED[:-4], SEALED + "A",
        SEALED.upper(), changed(SEALED), "13800001234",
    ],
    ids=itertools.count(),  # the values differ from run to run, their names may not
)  # fmt: skip
def test_a_foreign_or_changed_value_does_not_decrypt(stored: str) -> None:
    with pytest.raises(Undecipherable):
        RING.decrypt(stored, "customers.phone")


def test_a_value_cannot_be_moved_to_another_column() -> None:
    with pytest.raises(Undecipherable):
        RING.decrypt(SEALED, "residents.phone")
    assert RING.decrypt(SEALED, "customers.phone") == "13800001234"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["a.b", "", "客户.电话"]))
def test_what_is_encrypted_reads_back_and_never_looks_the_same(text: str, context: str) -> None:
    one, other = RING.encrypt(text, context), RING.encrypt(text, context)
    assert one != other and one.startswith("v1.k2.")
    assert RING.decrypt(one, context) == RING.decrypt(other, context) == text


def test_old_keys_still_read_and_the_current_one_writes() -> None:
    assert RING.decrypt(OLD.encrypt("x", "c"), "c") == "x"
    with pytest.raises(Undecipherable):
        OLD.decrypt(RING.encrypt("x", "c"), "c")


def test_a_key_id_may_hold_dots() -> None:
    ring = Keyring({"2026.11": b"1" * 32}, "2026.11", b"i" * 32)
    assert ring.decrypt(ring.encrypt("x", "c"), "c") == "x"


def test_a_blind_index_matches_equal_values_of_one_place_under_one_key() -> None:
    index = RING.blind_index("13800001234", "phone")
    assert index == OLD.blind_index("13800001234", "phone") and len(index) == 64
    others = [
        RING.blind_index("13800001235", "phone"),
        RING.blind_index("13800001234", "phon"),
        RING.blind_index("\x0013800001234", "phone"),
        Keyring(RING.keys, "k2", b"j" * 32).blind_index("13800001234", "phone"),
    ]
    assert len({index, *others}) == 5


def test_no_secret_shows_in_what_is_printed() -> None:
    assert "111" not in repr(RING) and "iii" not in repr(RING)
    with pytest.raises(Undecipherable) as refused:
        aes_gcm_decrypt(b"secret-secret-se", b"n" * 12, "AAAA", b"")
    assert str(refused.value) == "does not decrypt"


@pytest.mark.parametrize(
    ("key", "nonce", "ciphertext"),
    [
        (b"", b"n" * 12, "AAAA"), (b"k" * 31, b"n" * 12, "AAAA"), (b"k" * 32, b"", "AAAA"),
        (b"k" * 32, b"n" * 200, "AA=="),
        (b"k" * 32, b"n" * 12, ""), (b"k" * 32, b"n" * 12, "A"),
        (b"k" * 32, b"n" * 12, "密文"), (b"k" * 32, b"n" * 12, "AA\n=="),
    ],
)  # fmt: skip
def test_aes_gcm_with_nonsense(key: bytes, nonce: bytes, ciphertext: str) -> None:
    with pytest.raises(Undecipherable):
        aes_gcm_decrypt(key, nonce, ciphertext, b"")


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_aes_gcm_round_trip(plaintext: bytes, associated: bytes) -> None:
    sealed = aes_gcm_encrypt(b"k" * 32, b"n" * 12, plaintext, associated)
    assert aes_gcm_decrypt(b"k" * 32, b"n" * 12, sealed, associated) == plaintext
    with pytest.raises(Undecipherable):
        aes_gcm_decrypt(b"k" * 32, b"n" * 12, sealed, associated + b"x")


def test_token_hash_is_plain_sha_256() -> None:
    assert token_hash("message") == "ab530a13e45914982b79f9b7e3fba994cfd1f3fb22f71cea1afbf02b460c6d1d"


def test_only_rsa_keys_are_taken() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="not an RSA"):
        load_private_key(pem.decode())


CHANGING = Keyring(RING.keys, "k2", b"j" * 32, "i2", {"": b"i" * 32})


def test_while_an_index_key_changes_both_indexes_are_searched_and_the_new_one_is_written() -> None:
    old, new = CHANGING.blind_indexes("13800001234", "phone")

    assert old == RING.blind_index("13800001234", "phone") and index_key_id_of(old) == ""
    assert new == CHANGING.blind_index("13800001234", "phone") and index_key_id_of(new) == "i2"
    assert re.fullmatch(r"i2\.[0-9A-Za-z_-]{43}", new)
    longest = Keyring(RING.keys, "k2", b"j" * 32, "x" * 20).blind_index("13800001234", "phone")
    assert len(longest) == 64  # the width of the column


@pytest.mark.parametrize("key_id", ["x" * 21, "a.b", "a b", "钥匙"])
def test_an_index_key_id_that_would_not_fit_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="at most 20"):
        Keyring(RING.keys, "k2", b"j" * 32, key_id)
    with pytest.raises(ValueError, match="at most 20"):
        Keyring(RING.keys, "k2", b"j" * 32, "i2", {key_id: b"i" * 32})


def test_an_old_index_key_is_neither_weak_nor_the_one_that_writes() -> None:
    for old in ({"i1": b"short"}, {"i2": b"i" * 32}):
        with pytest.raises(ValueError):
            Keyring(RING.keys, "k2", b"j" * 32, "i2", old)


@pytest.mark.parametrize(
    ("stored", "key_id"),
    [(SEALED, "k2"), ("v1.2026.11.AAAA", "2026.11"), ("v2.k.AAAA", None), ("v1.AAAA", None), ("", None)],
    ids=itertools.count(),
)
def test_a_value_tells_the_id_of_its_key(stored: str, key_id: str | None) -> None:
    assert key_id_of(stored) == key_id
