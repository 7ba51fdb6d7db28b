"""The parameters of the payment routes as a table, and the refusals for what does not fit it.

Source of names and limits: pay.weixin.qq.com/doc/v3/merchant/4012791897 (mini-program order) and 4012791877 (Native).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit import strict_json
from kit.errors import Refusal
from sandbox.error import PayError

MAX_FEN = 2**53
DETAIL_BYTES = 6144


@dataclass(frozen=True)
class Text:
    """A string of ``least`` to ``most`` characters."""

    title: str
    most: int
    required: bool = False
    least: int = 1
    pattern: str | None = None


@dataclass(frozen=True)
class Whole:
    """A whole number: money in fen, or a count."""

    title: str
    required: bool = False
    least: int = 1


@dataclass(frozen=True)
class Flag:
    """true or false."""

    title: str
    required: bool = False


@dataclass(frozen=True)
class Group:
    """An object with named members."""

    title: str
    members: Mapping[str, "Parameter"]
    required: bool = False
    most_bytes: int | None = None


@dataclass(frozen=True)
class Many:
    """A list."""

    title: str
    each: "Parameter"
    required: bool = False


Parameter = Text | Whole | Flag | Group | Many

ADDRESS = r"https?://[!-~]+"
_GOODS = Group(
    "单品列表",
    {
        "merchant_goods_id": Text("商户侧商品编码", 32, required=True),
        "wechatpay_goods_id": Text("微信支付商品编码", 32),
        "goods_name": Text("商品名称", 256),
        "quantity": Whole("商品数量", required=True),
        "unit_price": Whole("商品单价", required=True, least=0),
    },
)
_STORE = Group(
    "商户门店信息",
    {
        "id": Text("门店编号", 32, required=True),
        "name": Text("门店名称", 256),
        "area_code": Text("地区编码", 32),
        "address": Text("详细地址", 512),
    },
)
_ORDER: dict[str, Parameter] = {
    "appid": Text("公众号ID", 32, required=True),
    "mchid": Text("直连商户号", 32, required=True),
    "description": Text("商品描述", 127, required=True),
    "out_trade_no": Text("商户订单号", 32, required=True, least=6, pattern=r"[0-9A-Za-z_\-|*]+"),
    "time_expire": Text("交易结束时间", 64, pattern=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d:\d\d|Z)"),
    "attach": Text("附加数据", 128),
    "notify_url": Text("通知地址", 255, required=True, pattern=ADDRESS),
    "goods_tag": Text("订单优惠标记", 32),
    "support_fapiao": Flag("电子发票入口开放标识"),
    "limit_pay": Many("指定支付方式", Text("指定支付方式", 32, pattern="no_balance|no_credit|no_debit|balance_only")),
    "amount": Group(
        "订单金额",
        {"total": Whole("总金额", required=True), "currency": Text("货币类型", 16, pattern="CNY")},
        required=True,
    ),
    "detail": Group(
        "优惠功能",
        {
            "cost_price": Whole("订单原价", least=0),
            "invoice_id": Text("商品小票ID", 32),
            "goods_detail": Many("单品列表", _GOODS),
        },
        most_bytes=DETAIL_BYTES,
    ),
    "scene_info": Group(
        "场景信息",
        {
            "payer_client_ip": Text("用户终端IP", 45, required=True),
            "device_id": Text("商户端设备号", 32),
            "store_info": _STORE,
        },
    ),
    "settle_info": Group("结算信息", {"profit_sharing": Flag("是否指定分账")}),
}
_PAYER = Group("支付者", {"openid": Text("用户标识", 128, required=True)}, required=True)

_PARTNERS: dict[str, Parameter] = {
    "sp_appid": Text("服务商应用ID", 32, required=True),
    "sp_mchid": Text("服务商户号", 32, required=True),
    "sub_appid": Text("子商户应用ID", 32),
    "sub_mchid": Text("子商户号", 32, required=True),
}
_PARTNER_ORDER: dict[str, Parameter] = {
    **_PARTNERS,
    **{name: each for name, each in _ORDER.items() if name not in ("appid", "mchid")},
    "settle_info": Group(
        "结算信息", {"profit_sharing": Flag("是否指定分账"), "subsidy_amount": Whole("补差金额", least=0)}
    ),
}
_PARTNER_PAYER = Group(
    "支付者", {"sp_openid": Text("用户服务标识", 128), "sub_openid": Text("用户子标识", 128)}, required=True
)

JSAPI = Group("下单", {**_ORDER, "payer": _PAYER}, required=True)
NATIVE = Group("下单", _ORDER, required=True)
CLOSE = Group("关单", {"mchid": Text("直连商户号", 32, required=True)}, required=True)
PARTNER_JSAPI = Group("下单", {**_PARTNER_ORDER, "payer": _PARTNER_PAYER}, required=True)
PARTNER_NATIVE = Group("下单", _PARTNER_ORDER, required=True)
PARTNER_CLOSE = Group("关单", {name: _PARTNERS[name] for name in ("sp_mchid", "sub_mchid")}, required=True)

REFUND = Group(
    "申请退款",
    {
        "sub_mchid": Text("子商户号", 32),
        "transaction_id": Text("微信支付订单号", 32),
        "out_trade_no": Text("商户订单号", 32, least=6, pattern=r"[0-9A-Za-z_\-|*]+"),
        "out_refund_no": Text("商户退款单号", 64, required=True, pattern=r"[0-9A-Za-z_\-|*@]+"),
        "reason": Text("退款原因", 80),
        "notify_url": Text("退款结果回调url", 256, pattern=ADDRESS),
        "funds_account": Text("退款资金来源", 32, pattern="AVAILABLE|UNSETTLED"),
        "amount": Group(
            "金额信息",
            {
                "refund": Whole("退款金额", required=True),
                "total": Whole("原订单金额", required=True),
                "currency": Text("退款币种", 16, required=True, pattern="CNY"),
                "from": Many(
                    "退款出资账户及金额",
                    Group(
                        "退款出资账户",
                        {
                            "account": Text("出资账户类型", 32, required=True, pattern="AVAILABLE|UNAVAILABLE"),
                            "amount": Whole("出资金额", required=True),
                        },
                    ),
                ),
            },
            required=True,
        ),
        "goods_detail": Many(
            "退款商品",
            Group(
                "退款商品",
                {
                    "merchant_goods_id": Text("商户侧商品编码", 32, required=True),
                    "wechatpay_goods_id": Text("微信侧商品编码", 32),
                    "goods_name": Text("商品名称", 256),
                    "unit_price": Whole("商品单价", required=True, least=0),
                    "refund_amount": Whole("商品退款金额", required=True, least=0),
                    "refund_quantity": Whole("商品退货数量", required=True),
                },
            ),
        ),
    },
    required=True,
)
ABNORMAL_REFUND = Group(
    "发起异常退款",
    {
        "sub_mchid": Text("子商户号", 32),
        "out_refund_no": Text("商户退款单号", 64, required=True),
        "type": Text("异常退款处理方式", 32, required=True, pattern="USER_BANK_CARD|MERCHANT_BANK_CARD"),
        "bank_type": Text("开户银行", 16),
        "bank_account": Text("收款银行卡号", 1024),
        "real_name": Text("收款用户姓名", 1024),
    },
    required=True,
)


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body, or PARAM_ERROR."""
    try:
        document = strict_json.loads(raw)
    except Refusal as refusal:
        raise PayError(400, "PARAM_ERROR", "请求体不是合法的JSON", number=268435461) from refusal
    if not isinstance(document, dict):
        raise PayError(400, "PARAM_ERROR", "请求体需要一个JSON对象", number=268435461)
    return document


def check(document: dict[str, Any], parameter: Group) -> None:
    """Refuse with PARAM_ERROR, naming the first member that does not fit."""
    _check(document, parameter, "")
    if "?" in document.get("notify_url", "") or "#" in document.get("notify_url", ""):
        raise wrong("/notify_url", document["notify_url"], "通知地址不能携带参数")


def wrong(pointer: str, value: Any, issue: str, location: str = "body") -> PayError:
    """PARAM_ERROR for one parameter: a JSON pointer for the body, a plain name elsewhere."""
    detail = {"field": pointer, "value": value, "issue": issue, "location": location}
    if value is None or not isinstance(value, str | int | bool):
        del detail["value"]
    return PayError(400, "PARAM_ERROR", issue, detail=detail, number=268435461)


def _wrong_type(pointer: str, value: Any, title: str, kind: str) -> PayError:
    issue = f"无法将JSON输入源“/body{pointer}”映射到目标字段“{title}”中，此字段需要一个{kind}"
    return wrong(pointer, value, issue)


def _check(value: Any, parameter: Parameter, pointer: str) -> None:
    source = f"输入源“/body{pointer}”"
    match parameter:
        case Text():
            _check_text(value, parameter, pointer, source)
        case Whole():
            if type(value) is not int:
                raise _wrong_type(pointer, value, parameter.title, "合法的 64 位有符号整数")
            rule = f"{source}映射到数值字段“{parameter.title}”规则校验失败，"
            if value < parameter.least:
                raise wrong(pointer, value, f"{rule}值低于最小值 {parameter.least}")
            if value > MAX_FEN:
                raise wrong(pointer, value, f"{rule}值高于最大值 {MAX_FEN}")
        case Flag():
            if type(value) is not bool:
                raise _wrong_type(pointer, value, parameter.title, "布尔值")
        case Many():
            if not isinstance(value, list):
                raise _wrong_type(pointer, value, parameter.title, "数组")
            for position, each in enumerate(value):
                _check(each, parameter.each, f"{pointer}/{position}")
        case Group():
            _check_group(value, parameter, pointer, source)


def _check_text(value: Any, text: Text, pointer: str, source: str) -> None:
    if not isinstance(value, str):
        raise _wrong_type(pointer, value, text.title, "字符串")
    rule = f"{source}映射到值字段“{text.title}”字符串规则校验失败，"
    if len(value) < text.least:
        raise wrong(pointer, value, f"{rule}字符数 {len(value)}，小于最小值 {text.least}")
    if len(value) > text.most:
        raise wrong(pointer, value, f"{rule}字符数 {len(value)}，大于最大值 {text.most}")
    if text.pattern is not None and not re.fullmatch(text.pattern, value, re.ASCII):
        raise wrong(pointer, value, f"{rule}不满足格式要求")


def _check_group(value: Any, group: Group, pointer: str, source: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(pointer, value, group.title, "对象")
    for name in value:
        if name not in group.members:
            extra = wrong(f"{pointer}/{name}", None, "参数中含有非法的额外参数")
            extra.number = 270924358
            raise extra
    for name, member in group.members.items():
        if name in value:
            _check(value[name], member, f"{pointer}/{name}")
        elif member.required:
            issue = f"输入源“/body{pointer}/{name}”映射到值字段“{member.title}”必填性规则校验失败，此字段为必填项"
            missing = wrong(f"{pointer}/{name}", None, issue)
            missing.number = {"payer": 268501013, "openid": 268501013, "sub_mchid": 268443704}.get(name, 268435461)
            raise missing
    if group.most_bytes is not None:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if size > group.most_bytes:
            issue = f"{source}映射到字段“{group.title}”规则校验失败，字节数 {size}，大于最大值 {group.most_bytes}"
            raise wrong(pointer, None, issue)
