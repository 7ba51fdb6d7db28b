"""The three ways to say no: as WeChat Pay, as the mini-program API, and as the sandbox's own control routes."""

import secrets
from typing import Any


class PayError(Exception):
    """A refusal of Pay APIv3. ``number`` is the internal error number that ends the Request-ID.

    Source of codes and numbers: pay.weixin.qq.com/doc/v3/merchant/4012081709 and the tables of each route.
    """

    def __init__(
        self, status: int, code: str, message: str, *, detail: dict[str, Any] | None = None, number: int = 0
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.detail, self.number = status, code, message, detail, number

    def body(self) -> dict[str, Any]:
        """The error document."""
        document: dict[str, Any] = {"code": self.code, "message": self.message}
        return document if self.detail is None else {**document, "detail": self.detail}


def order_not_exist() -> PayError:
    """The merchant has no such order."""
    return PayError(404, "ORDER_NOT_EXIST", "订单不存在", number=268512771)


def order_paid() -> PayError:
    """The order is paid: neither order again nor close."""
    return PayError(400, "ORDERPAID", "该订单已支付", number=268449538)


def order_closed() -> PayError:
    """The order is closed or past its time: only a new number helps."""
    return PayError(400, "ORDER_CLOSED", "该订单已失效", number=268447914)


def out_trade_no_used() -> PayError:
    """The number was used with other parameters."""
    return PayError(403, "OUT_TRADE_NO_USED", "商户订单号重复", number=268498688)


def appid_mchid_not_match() -> PayError:
    """The app is not bound to the merchant."""
    return PayError(400, "APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配，请检查后再试", number=268445527)


def header_mchid_differs() -> PayError:
    """Signed by one merchant, speaking of another."""
    return PayError(400, "PARAM_ERROR", "http header中的mchid与post payload中的mchid不匹配", number=268447843)


def resource_not_exists(message: str = "订单不存在") -> PayError:
    """On the refund routes: no such refund, or no such order that was paid."""
    return PayError(404, "RESOURCE_NOT_EXISTS", message)


def sub_mchid_differs() -> PayError:
    """The order is another sub-merchant's, or of none."""
    return PayError(400, "PARAM_ERROR", "子商户号和订单不匹配", number=268447845)


class ApiError(Exception):
    """A refusal of the mini-program server API: HTTP 200 with ``errcode``."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errmsg)
        self.errcode, self.errmsg = errcode, errmsg

    def body(self) -> dict[str, Any]:
        """The error document, with a rid as WeChat appends it."""
        rid = "-".join(secrets.token_hex(4) for _ in range(3))
        return {"errcode": self.errcode, "errmsg": f"{self.errmsg} rid: {rid}"}


class ControlError(Exception):
    """A refusal of the control routes: a lower-case code, and facts that help to put it right."""

    def __init__(self, status: int, code: str, message: str, **facts: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.facts = status, code, message, facts

    def body(self) -> dict[str, Any]:
        """The error document."""
        return {"code": self.code, "message": self.message, **self.facts}
