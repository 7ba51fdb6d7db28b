"""Who an order is between: a merchant of its own, or a service provider and the sub-merchant it acts for.

Source of the names: pay.weixin.qq.com, APIv3 for merchants and for partners (服务商), 下单.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from sandbox import error, parameter
from sandbox.context import Context
from sandbox.error import PayError
from sandbox.merchant import Merchant


@dataclass(frozen=True)
class Party:
    """The caller's number and app, and of a partner's order the sub-merchant's; the payer as far as it is named."""

    mchid: str
    appid: str
    openid: str | None
    sub_mchid: str | None = None
    sub_appid: str | None = None
    sub_openid: str | None = None

    def columns(self) -> dict[str, str | None]:
        """As the order's row keeps them."""
        return asdict(self)


def direct(context: Context, merchant: Merchant, request: dict[str, Any]) -> Party:
    """The party to a direct merchant's order; refuses what does not belong together."""
    if request["mchid"] != merchant.mchid:
        raise error.header_mchid_differs()
    if request["appid"] not in merchant.appids:
        raise error.appid_mchid_not_match()
    openid = request.get("payer", {}).get("openid")
    if openid is not None:
        _check_payer(context, openid, request["appid"])
    return Party(merchant.mchid, request["appid"], openid)


def partner(context: Context, merchant: Merchant, request: dict[str, Any]) -> Party:
    """The parties to a partner's order; refuses what does not belong together."""
    if request["sp_mchid"] != merchant.mchid:
        raise error.header_mchid_differs()
    sub_appids = sub_merchant(merchant, request["sub_mchid"])
    sub_appid = request.get("sub_appid")
    if request["sp_appid"] not in merchant.appids or (sub_appid is not None and sub_appid not in sub_appids):
        raise error.appid_mchid_not_match()
    payer = request.get("payer", {})
    sp_openid, sub_openid = payer.get("sp_openid"), payer.get("sub_openid")
    if "payer" in request and not (sp_openid or sub_openid):
        issue = "sp_openid和sub_openid不能同时为空"
        missing = parameter.wrong("/payer/sp_openid", None, issue)
        missing.number = 268501013
        raise missing
    if sp_openid is not None:
        _check_payer(context, sp_openid, request["sp_appid"])
    if sub_openid is not None:
        if sub_appid is None:
            raise parameter.wrong("/sub_appid", None, "传sub_openid时sub_appid必填")
        _check_payer(context, sub_openid, sub_appid)
    return Party(merchant.mchid, request["sp_appid"], sp_openid, request["sub_mchid"], sub_appid, sub_openid)


def sub_merchant(merchant: Merchant, sub_mchid: str) -> frozenset[str]:
    """The apps of a sub-merchant that this service provider acts for, or a refusal."""
    if sub_mchid == merchant.mchid:
        raise PayError(400, "PARAM_ERROR", "子商户号不能与服务商商户号相同", number=268443705)
    if sub_mchid not in merchant.sub_merchants:
        raise PayError(403, "NO_AUTH", "受理关系不存在", number=268443701)
    return merchant.sub_merchants[sub_mchid]


def _check_payer(context: Context, openid: str, appid: str) -> None:
    person = context.store.row("SELECT appid FROM person WHERE openid = ?", openid)
    if person is None or person["appid"] != appid:
        raise PayError(400, "PARAM_ERROR", "appid和openid不匹配", number=268435461)


def named_payer(trade: dict[str, Any]) -> str | None:
    """Who was named when the order was placed, or has paid it."""
    payer: str | None = trade["sub_openid"] or trade["openid"]
    return payer


def may_pay(context: Context, trade: dict[str, Any], openid: str) -> str | None:
    """The app in which this person may pay the order, or None."""
    person = context.store.row("SELECT appid FROM person WHERE openid = ?", openid)
    if person is None or person["appid"] not in (trade["appid"], trade["sub_appid"]):
        return None
    return str(person["appid"])


def told(trade: dict[str, Any]) -> dict[str, Any]:
    """The members that name the parties, in query and callback alike."""
    if trade["sub_mchid"] is None:
        return {"appid": trade["appid"], "mchid": trade["mchid"]}
    sub_app = {} if trade["sub_appid"] is None else {"sub_appid": trade["sub_appid"]}
    return {"sp_appid": trade["appid"], "sp_mchid": trade["mchid"], **sub_app, "sub_mchid": trade["sub_mchid"]}


def payer(trade: dict[str, Any]) -> dict[str, str]:
    """Who paid, as query and callback say it."""
    if trade["sub_mchid"] is None:
        return {"openid": trade["openid"]}
    if trade["sub_openid"] is None:
        return {"sp_openid": trade["openid"]}
    # The same person has an openid in the provider's app too, which nobody here has ever seen.
    unseen = "o" + hashlib.sha256(f"{trade['appid']}{trade['sub_openid']}".encode()).hexdigest()[:27]
    return {"sp_openid": trade["openid"] or unseen, "sub_openid": trade["sub_openid"]}
