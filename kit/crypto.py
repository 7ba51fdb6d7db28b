"""Cryptography, by the ``cryptography`` package only: RSA signatures, AES-GCM, field encryption, blind indexes.

Keys come in from outside; nothing here reads a file or the environment, and nothing here puts a secret in an error.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509 import load_pem_x509_certificate


class Undecipherable(ValueError):
    """A ciphertext, tag or key that does not fit. Says nothing about which."""


def load_private_key(pem: str) -> RSAPrivateKey:
    """An RSA private key from PEM. Costs about 50 ms: load once, keep. Raises ValueError for another kind of key."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA private key")
    return key


def load_public_key(pem: str) -> RSAPublicKey:
    """An RSA public key from a PEM public key or certificate. Raises ValueError for anything else."""
    key = (
        load_pem_x509_certificate(pem.encode()).public_key()
        if "BEGIN CERTIFICATE" in pem
        else serialization.load_pem_public_key(pem.encode())
    )
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA public key")
    return key


def rsa_sign(key: RSAPrivateKey, message: bytes) -> str:
    """RSASSA-PKCS1-v1_5 with SHA-256, base64: what WeChat calls SHA256-RSA2048."""
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def rsa_verifies(key: RSAPublicKey, message: bytes, signature: str) -> bool:
    """Whether ``signature`` (base64) is the key's own for ``message``. Never raises, whatever the text holds."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def aes_gcm_encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> str:
    """AES-GCM, base64 of ciphertext and 16-byte tag."""
    return base64.b64encode(AESGCM(key).encrypt(nonce, plaintext, associated)).decode()


def aes_gcm_decrypt(key: bytes, nonce: bytes, ciphertext: str, associated: bytes) -> bytes:
    """The plaintext of ``aes_gcm_encrypt``; raises Undecipherable when anything does not fit."""
    try:
        return AESGCM(key).decrypt(nonce, base64.b64decode(ciphertext, validate=True), associated)
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise Undecipherable("does not decrypt") from error


def token_hash(token: str) -> str:
    """What is stored of a session token: SHA-256, hex. The token has 256 random bits, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


_INDEX_KEY_ID = re.compile(r"[0-9A-Za-z_-]{0,20}")  # with a dot and 43 characters it fits a column of 64


def key_id_of(stored: str) -> str | None:
    """The id of the key that wrote a field (``v1.<key id>.<base64>``); None for text that no keyring wrote."""
    version, _, rest = stored.partition(".")
    key_id, dot, _ = rest.rpartition(".")
    return key_id if version == "v1" and dot and key_id else None


def index_key_id_of(index: str) -> str:
    """The id of the key that made a blind index; empty for one of the key that has no id."""
    return index.rpartition(".")[0]


@dataclass(frozen=True)
class Keyring:
    """Keys for fields at rest: several to read (by key id), the ``current`` one to write.

    For blind indexes ``index_key`` writes, and ``old_index_keys`` (by id) are searched too while a change of keys
    lasts. An index tells its key's id, ``<id>.<base64url>``; the key whose id is empty writes plain hex.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    current: str
    index_key: bytes = field(repr=False)
    index_key_id: str = ""
    old_index_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys or any(len(key) != 32 for key in self.keys.values()):
            raise ValueError("a keyring needs 32-byte keys and a current one among them")
        if any(len(key) < 32 for key in (self.index_key, *self.old_index_keys.values())):
            raise ValueError("the index key needs at least 32 bytes")
        if self.index_key_id in self.old_index_keys:
            raise ValueError("the id of the index key that writes is among the old ones")
        if not all(_INDEX_KEY_ID.fullmatch(key_id) for key_id in self.index_key_ids):
            raise ValueError("the id of an index key has at most 20 letters, digits, dashes or underscores")

    @property
    def index_key_ids(self) -> tuple[str, ...]:
        """The ids of all index keys, the writing one last."""
        return (*self.old_index_keys, self.index_key_id)

    def encrypt(self, plaintext: str, context: str) -> str:
        """``v1.<key id>.<base64>``, bound to ``context`` (``table.column``) so that it cannot be moved elsewhere."""
        nonce = secrets.token_bytes(12)
        sealed = AESGCM(self.keys[self.current]).encrypt(nonce, plaintext.encode(), context.encode())
        return f"v1.{self.current}.{base64.b64encode(nonce + sealed).decode()}"

    def decrypt(self, stored: str, context: str) -> str:
        """What ``encrypt`` hid; raises Undecipherable for a foreign, changed or moved value or an unknown key id."""
        key_id = key_id_of(stored)
        if key_id is None or key_id not in self.keys:
            raise Undecipherable("unknown version or key id")
        try:
            raw = base64.b64decode(stored.rpartition(".")[2], validate=True)
            return AESGCM(self.keys[key_id]).decrypt(raw[:12], raw[12:], context.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Undecipherable("does not decrypt") from error

    def blind_index(self, plaintext: str, context: str) -> str:
        """A keyed fingerprint for equality search (HMAC-SHA-256): equal values match, nothing else is told."""
        return _fingerprint(self.index_key_id, self.index_key, plaintext, context)

    def blind_indexes(self, plaintext: str, context: str) -> tuple[str, ...]:
        """The fingerprints under every index key, old ones first: what to search by while a change of keys lasts."""
        old = (_fingerprint(key_id, key, plaintext, context) for key_id, key in self.old_index_keys.items())
        return (*old, self.blind_index(plaintext, context))


def _fingerprint(key_id: str, key: bytes, plaintext: str, context: str) -> str:
    made = hmac.new(key, f"{context}\0{plaintext}".encode(), hashlib.sha256)
    if not key_id:
        return made.hexdigest()
    return f"{key_id}.{base64.urlsafe_b64encode(made.digest()).rstrip(b'=').decode()}"
