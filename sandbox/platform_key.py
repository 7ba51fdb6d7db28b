"""WeChat's own keys: one certificate of the platform, one public key per merchant; and signing with them."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from kit import crypto
from kit.wechat_signature import SCHEME, response_message
from sandbox.clock import beijing
from sandbox.error import PayError
from sandbox.store import Store

CERTIFICATE_YEARS = 5
PROBE = "WECHATPAY/SIGNTEST/"
_SIGN_WITH_OLDEST = "rotation.sign_with_oldest"


@dataclass(frozen=True)
class SigningKey:
    """A serial (``PUB_KEY_ID_…`` or a certificate's 40 hex digits) and the private key behind it, in PEM."""

    serial: str
    private_key: str

    def sign(self, message: bytes) -> str:
        """The signature, base64."""
        return crypto.rsa_sign(_loaded(self.private_key), message)


@lru_cache(maxsize=64)
def _loaded(pem: str) -> rsa.RSAPrivateKey:
    # Reading a PEM costs a hundred times what signing does.
    return crypto.load_private_key(pem)


def make_key_pair() -> tuple[str, str]:
    """A fresh RSA-2048 pair: public and private PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.decode(), _private_pem(key)


def _private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_public_key_id(mchid: str) -> str:
    """``PUB_KEY_ID_`` and 34 digits, the merchant's number among them, as the real ones look."""
    digits = "".join(character for character in mchid if character.isdigit())[-10:].zfill(10)
    return f"PUB_KEY_ID_0{digits}{secrets.randbelow(10**23):023d}"


def ensure_certificate(store: Store, now: datetime) -> None:
    """Make the platform's certificate on the first start, a day old by then."""
    if not store.row("SELECT 1 FROM platform_certificate"):
        make_certificate(store, now - timedelta(days=1))


def make_certificate(store: Store, start: datetime) -> None:
    """A further certificate of the platform, good from ``start`` on."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tenpay.com"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com sign (local sandbox)"),
        ]
    )
    start = start.replace(microsecond=0)
    end = start + timedelta(days=365 * CERTIFICATE_YEARS)
    # The top bit stays clear and the next one set: 40 hex digits, and a positive number in DER.
    number = secrets.randbits(158) | 1 << 158
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    store.insert(
        "platform_certificate",
        serial_no=f"{number:040X}",
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=_private_pem(key),
        effective_time=beijing(start),
        expire_time=beijing(end),
    )


def certificates(store: Store) -> list[dict[str, str]]:
    """The platform's certificates, newest last."""
    return store.rows("SELECT * FROM platform_certificate ORDER BY rowid")


def certificate_key(store: Store) -> SigningKey:
    """The key of the certificate that signs: the newest, unless the oldest was chosen."""
    chosen = certificates(store)[0 if store.number(_SIGN_WITH_OLDEST, 0) else -1]
    return SigningKey(chosen["serial_no"], chosen["private_key"])


def sign_with_oldest(store: Store, oldest: bool) -> None:
    """Choose which certificate signs while there are two."""
    store.set_number(_SIGN_WITH_OLDEST, int(oldest))


def keep_newest_certificate(store: Store) -> None:
    """Throw all but the newest certificate away."""
    newest = certificates(store)[-1]["serial_no"]
    store.execute("DELETE FROM platform_certificate WHERE serial_no <> ?", newest)
    sign_with_oldest(store, False)


def check_sealed(
    store: Store, public_key: SigningKey, serial: str | None, document: dict[str, Any], members: tuple[str, ...]
) -> None:
    """Refuse members that were not sealed with the key whose serial the request names (RSAES-OAEP, SHA-1)."""
    given = [document[name] for name in members if isinstance(document.get(name), str)]
    if not given:
        return
    pems = {row["serial_no"]: row["private_key"] for row in certificates(store)}
    pem = (pems | {public_key.serial: public_key.private_key}).get(serial or "")
    if pem is None:
        raise PayError(400, "PARAM_ERROR", "请求头Wechatpay-Serial有误，无法解密敏感信息")
    # SHA-1 is what the protocol says.
    scheme = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303
    for text in given:
        try:
            _loaded(pem).decrypt(base64.b64decode(text, validate=True), scheme)
        except ValueError as unreadable:
            raise PayError(400, "PARAM_ERROR", "敏感信息解密失败，请检查加密使用的公钥") from unreadable


def signature_headers(key: SigningKey, timestamp: int, body: bytes) -> dict[str, str]:
    """The five headers that sign an answer or a callback: fresh nonce, given time."""
    nonce = secrets.token_hex(16)
    return {
        "Wechatpay-Timestamp": str(timestamp),
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": key.serial,
        "Wechatpay-Signature": key.sign(response_message(str(timestamp), nonce, body)),
        "Wechatpay-Signature-Type": SCHEME,
    }


def probe_signature(length: int = 344) -> str:
    """A signature that is false on purpose, as WeChat sends now and then to see whether anybody verifies."""
    return PROBE + secrets.token_hex(length)[: length - len(PROBE)]
