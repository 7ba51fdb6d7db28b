"""Verifying a merchant's Authorization header, with WeChat's own words when it fails.

Order of the checks as the real service was seen to make them: header format, age, serial, signature.
"""

from kit import crypto
from kit.wechat_signature import SCHEME, is_fresh, parse_authorization, request_message
from sandbox.error import PayError
from sandbox.merchant import Merchant, Merchants

PAY_PATH = "/v3/pay/"
MISSING_ON_PAY = "签名信息错误，验签失败"
MISSING = "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》"
WRONG_SCHEME = "HTTP头Authorization认证类型不正确"
STALE = "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"
WRONG_SERIAL = "商户证书序列号有误。请使用签名私钥匹配的证书序列号"
WRONG_SIGNATURE = "签名错误"


def require_headers(path: str, accept: str | None, user_agent: str | None) -> None:
    """Refuse a request without Accept or User-Agent; the payment routes call that a failed signature."""
    if accept and user_agent:
        return
    if path.startswith(PAY_PATH):
        raise _sign_error(MISSING_ON_PAY)
    raise PayError(400, "INVALID_REQUEST", "Http头缺少Accept或User-Agent")


def verify(merchants: Merchants, header: str | None, method: str, target: str, body: bytes, now_s: int) -> Merchant:
    """The merchant who signed exactly these bytes, or PayError 401. ``target`` is path and query as on the wire."""
    malformed = MISSING_ON_PAY if target.startswith(PAY_PATH) else MISSING
    scheme = (header or "").partition(" ")[0]
    if not header or scheme in ("Bearer", "Basic"):
        raise _sign_error(malformed)
    if scheme != SCHEME:
        raise _sign_error(WRONG_SCHEME)
    authorization = parse_authorization(header)
    if authorization is None:
        raise _sign_error(malformed)
    if not is_fresh(authorization.timestamp, now_s):
        raise _sign_error(STALE)
    merchant = merchants.get(authorization.mchid)
    if merchant is None or authorization.serial_no.upper() != merchant.serial_no.upper():
        raise _sign_error(WRONG_SERIAL)
    message = request_message(method, target, authorization.timestamp, authorization.nonce_str, body)
    if not crypto.rsa_verifies(merchant.public_key, message, authorization.signature):
        raise _sign_error(WRONG_SIGNATURE)
    return merchant


def _sign_error(message: str) -> PayError:
    return PayError(401, "SIGN_ERROR", message, number=268443699)
