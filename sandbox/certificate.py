"""The platform's certificates: downloading them, and changing to a new one while the old is still good.

Source: pay.weixin.qq.com, APIv3, 下载平台证书 and 微信支付公钥. During a change both are listed, and either may sign.
"""

import secrets
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from kit import crypto
from sandbox import platform_key
from sandbox.answer import answer, caller_of, json_answer
from sandbox.context import Context, context_of
from sandbox.control import fields
from sandbox.error import ControlError, PayError
from sandbox.merchant import KeyMode, Merchant

certificate_api = Blueprint("certificate_api", url_prefix="/v3")
certificate_control = Blueprint("certificate_control", url_prefix="/sandbox")


@certificate_api.get("/certificates")
async def certificates(request: Request) -> HTTPResponse:
    """The platform's certificates, each sealed with the merchant's APIv3 key."""
    context, merchant = context_of(request), caller_of(request)

    async def accept() -> dict[str, Any]:
        if merchant.key_mode is KeyMode.PUBLIC_KEY:
            message = "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥。"
            raise PayError(404, "RESOURCE_NOT_EXISTS", message)
        return {"data": [_sealed(merchant, row) for row in platform_key.certificates(context.store)]}

    return await answer(request, merchant, "certificates", None, accept)


def _sealed(merchant: Merchant, row: dict[str, str]) -> dict[str, Any]:
    nonce = secrets.token_hex(6)
    plaintext = row["certificate"].encode()
    return {
        "serial_no": row["serial_no"],
        "effective_time": row["effective_time"],
        "expire_time": row["expire_time"],
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": crypto.aes_gcm_encrypt(merchant.apiv3_key, nonce.encode(), plaintext, b"certificate"),
        },
    }


@certificate_control.get("/rotation")
async def show(request: Request) -> HTTPResponse:
    """The certificates, oldest first, and which of them signs."""
    return json_answer(_standing(context_of(request)))


@certificate_control.post("/rotation")
async def begin(request: Request) -> HTTPResponse:
    """Begin a change of certificates, or choose anew which one signs while it lasts."""
    sign_with = fields(request, {}, {"sign_with": str}).get("sign_with", "new")
    if sign_with not in ("new", "old"):
        raise ControlError(422, "invalid_input", "sign_with 为 new 或 old。", fields=["sign_with"])
    context = context_of(request)
    if len(platform_key.certificates(context.store)) == 1:
        platform_key.make_certificate(context.store, context.clock.now())
    platform_key.sign_with_oldest(context.store, sign_with == "old")
    return json_answer(_standing(context))


@certificate_control.delete("/rotation")
async def end(request: Request) -> HTTPResponse:
    """End the change: only the new certificate is left, and signs."""
    context = context_of(request)
    platform_key.keep_newest_certificate(context.store)
    return json_answer(_standing(context))


def _standing(context: Context) -> dict[str, Any]:
    signing = platform_key.certificate_key(context.store).serial
    shown = ("serial_no", "effective_time", "expire_time", "certificate")
    return {
        "certificates": [
            {**{name: row[name] for name in shown}, "signs": row["serial_no"] == signing}
            for row in platform_key.certificates(context.store)
        ]
    }
