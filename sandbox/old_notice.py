"""The notice of a refund that had no notify_url of its own, as the platform has sent it since before APIv3: XML.

Source: pay.weixin.qq.com, APIv2, 退款结果通知. The key is the md5 of the merchant's API key in hex; merchants here
have but one, so it is made of the APIv3 key. Such a notice carries no Wechatpay-Signature.
"""

import base64
import hashlib
import secrets
from typing import Any
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from sandbox.merchant import Merchant


def document(resource: dict[str, Any], merchant: Merchant) -> bytes:
    """The XML that says what ``resource``, a notice of today, says."""
    told = {
        "out_refund_no": resource["out_refund_no"],
        "out_trade_no": resource["out_trade_no"],
        "refund_id": resource["refund_id"],
        "refund_fee": resource["amount"]["refund"],
        "refund_status": {"CLOSED": "REFUNDCLOSE", "ABNORMAL": "CHANGE"}.get(
            resource["refund_status"], resource["refund_status"]
        ),
        "success_time": resource.get("success_time", "")[:19].replace("T", " "),
        "total_fee": resource["amount"]["total"],
        "transaction_id": resource["transaction_id"],
    }
    parties = {"mch_id": resource.get("mchid") or resource["sp_mchid"]}
    if "sub_mchid" in resource:
        parties["sub_mch_id"] = resource["sub_mchid"]
    outside = {
        "return_code": "SUCCESS",
        **parties,
        "nonce_str": secrets.token_hex(16),
        "req_info": _sealed(_xml("root", told), merchant.apiv3_key),
    }
    return _xml("xml", outside)


def _xml(name: str, members: dict[str, Any]) -> bytes:
    inside = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in members.items())
    return f"<{name}>{inside}</{name}>".encode()


def _sealed(plaintext: bytes, api_key: bytes) -> str:
    # MD5 and ECB are what the old protocol says.
    key = hashlib.md5(api_key, usedforsecurity=False).hexdigest().encode()
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    padded = padder.update(plaintext) + padder.finalize()
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()
