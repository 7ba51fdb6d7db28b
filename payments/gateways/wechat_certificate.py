"""WeChat's platform certificates as they are downloaded: sealed with our APIv3 key, checked against themselves.

Source: pay.weixin.qq.com/doc/v3/merchant/4012551764 (GET /v3/certificates).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import Certificate, load_pem_x509_certificate

from kit import strict_json
from kit.crypto import Undecipherable, aes_gcm_decrypt, load_public_key
from kit.errors import Refusal
from kit.wechat_signature import serial_number
from payments.gateways.base import OutcomeUnknown, PlatformCertificate

_SHORTEST_KEY = 2048


def read_certificates(apiv3_key: bytes, body: bytes, now: datetime) -> list[PlatformCertificate]:
    """The certificates in the body of an answer, without those that have expired. OutcomeUnknown when one of them does
    not open, is not what its serial says, or is no RSA key of at least 2048 bits. The signature is the caller's."""
    try:
        document = strict_json.loads(body)
        found = [_read(apiv3_key, _trimmed(item)) for item in _trimmed(document)["data"]]
    except (Refusal, Undecipherable, KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutcomeUnknown("CERTIFICATES_UNREADABLE", type(error).__name__) from error
    return [one for one in found if one.expires_at > now]


def believed_about(
    known: Mapping[str, RSAPublicKey], found: Sequence[PlatformCertificate]
) -> Mapping[str, RSAPublicKey]:
    """The keys whose signature under a download is believed. The first download cannot be verified beforehand: the seal
    under our APIv3 key says that the certificates are WeChat's, and one of them must have signed. Later ones are
    believed from a known key alone."""
    if any(not serial.startswith("PUB_KEY_ID_") for serial in known):
        return known
    return {**known, **{one.serial: load_public_key(one.pem) for one in found}}


def _trimmed(document: Mapping[str, Any]) -> dict[str, Any]:
    # WeChat's own sample writes "effective_time " with a blank at its end.
    return {name.strip(): value for name, value in document.items()}


def _read(apiv3_key: bytes, item: Mapping[str, Any]) -> PlatformCertificate:
    sealed = _trimmed(item["encrypt_certificate"])
    associated = str(sealed.get("associated_data") or "").encode()
    pem = aes_gcm_decrypt(apiv3_key, sealed["nonce"].encode(), sealed["ciphertext"], associated).decode()
    certificate = load_pem_x509_certificate(pem.encode())
    serial = str(item["serial_no"])
    if serial_number(serial) != certificate.serial_number:
        raise ValueError("serial_no")
    if load_public_key(pem).key_size < _SHORTEST_KEY:
        raise ValueError("key size")
    return PlatformCertificate(serial, pem, *validity(certificate))


def validity(certificate: Certificate) -> tuple[datetime, datetime]:
    """From when to when, aware."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins.astimezone(UTC), ends.astimezone(UTC)
