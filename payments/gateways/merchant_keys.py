"""The keys of one merchant account: those by which it speaks to WeChat Pay, and those by which it believes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from kit.crypto import rsa_verifies
from kit.wechat_signature import is_fresh, response_message
from models.merchant_account import MerchantMode


@dataclass(frozen=True)
class MerchantKeys:
    """Everything that is needed to speak as one merchant account, and to believe what is said to it."""

    mode: MerchantMode
    mchid: str
    sub_mchid: str | None
    serial_no: str
    private_key: RSAPrivateKey = field(repr=False)
    apiv3_key: bytes = field(repr=False)
    wechat_keys: Mapping[str, RSAPublicKey] = field(repr=False)  # serial → key, of both kinds
    public_key_id: str | None = None  # asks WeChat to sign its answers with this one
    sp_appid: str | None = None  # the service provider's own app

    def verifies(self, headers: Mapping[str, str], body: bytes, now_s: int) -> bool:
        """Whether WeChat signed these bytes for us within the last five minutes. Never raises."""
        timestamp, nonce = headers.get("wechatpay-timestamp", ""), headers.get("wechatpay-nonce", "")
        key = self.wechat_keys.get(headers.get("wechatpay-serial", ""))
        if key is None or not is_fresh(timestamp, now_s):
            return False
        return rsa_verifies(key, response_message(timestamp, nonce, body), headers.get("wechatpay-signature", ""))

    def lacks(self, headers: Mapping[str, str]) -> bool:
        """Whether these bytes claim to be signed by a key that is not known here."""
        return headers.get("wechatpay-serial", "") not in {"", *self.wechat_keys}
