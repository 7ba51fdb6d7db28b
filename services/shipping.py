"""发货信息: telling WeChat that what was paid for was provided, for mini-programs that must.

Source: developers.weixin.qq.com, 小程序发货信息管理服务 (upload_shipping_info). Property fees are 虚拟商品
(logistics_type 3) in one piece (delivery_mode 1). Off unless a manager switches it on for the app.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.ids import new_id
from models.bill import Bill
from models.payment import INTERNAL, AttemptState, Payment, PaymentAttempt, PaymentBill, PaymentState
from models.shipping import SHIPPING_MACHINE, ShippingState, ShippingUpload
from models.unit_of_work import rows, unit_of_work
from models.wechat_app import WechatApp
from services import miniprogram

log = structlog.get_logger()

FIRST_AFTER_S = 10
RETRY_S = (60, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600)
"""After WeChat did not know the order yet (up to a minute), was busy or away; after the last one it has failed."""
MOST_BACKLOG_DAYS = 30

_LEASE_S = 60
_AT_ONCE = 4
_AGAIN = {10060001, 10060012, 10060019}  # order not there yet; busy
_DONE = {10060002, 10060003, 10060023}  # shipped already; nothing changed
_NOT_ENABLED = 48001
_LONGEST_DESCRIPTION = 120

_QUEUE = """
INSERT INTO shipping_uploads (id, created_at, organization_id, community_id, app_id, payment_id, state, attempts,
    next_check_at, detail)
VALUES ($1, $2, $3, $4, $5, $6, 'queued', 0, $7, '') ON CONFLICT (payment_id) DO NOTHING RETURNING id
"""


async def queue_upload(payment: Payment) -> bool:
    """See to it that a settled payment is told, if its app tells; whether it is queued now. Again is nothing new."""
    if payment.state is not PaymentState.PAID or payment.paid_at is None:
        return False
    if payment.merchant_account_id is None or payment.channel in INTERNAL:  # WeChat does not know of it
        return False
    attempt = await PaymentAttempt.get(payment_id=payment.id, state=AttemptState.PAID)
    appid = attempt.sub_appid or attempt.appid
    app = await WechatApp.get_or_none(organization_id=payment.organization_id, appid=appid)
    if app is None or app.shipping_since_at is None or payment.paid_at < app.shipping_since_at:
        return False
    return await _queue(payment, app)


@unit_of_work
async def _queue(payment: Payment, app: WechatApp) -> bool:
    due = clock.now() + timedelta(seconds=FIRST_AFTER_S)
    made = await rows(_QUEUE, new_id(), clock.now(), payment.organization_id, payment.community_id, app.id,
                      payment.id, due)  # fmt: skip
    return bool(made)


async def queue_backlog(app_id: UUID) -> int:
    """Queue what was paid since the app's ``shipping_since_at``, at most thirty days back, and is not queued yet; how
    many. Those that WeChat had refused are queued again."""
    app = await WechatApp.get(id=app_id)
    if app.shipping_since_at is None:
        return 0
    since = max(app.shipping_since_at, clock.now() - timedelta(days=MOST_BACKLOG_DAYS))
    queued = await _queue_failed_again(app_id)
    last = None
    while True:
        # An id is made when a payment is opened, which is within two hours of its being paid.
        paid = Payment.filter(organization_id=app.organization_id, state=PaymentState.PAID, paid_at__gte=since,
                              created_at__gte=since - timedelta(days=1))  # fmt: skip
        page = await (paid.filter(id__gt=last) if last else paid).order_by("id").limit(200)
        for payment in page:
            queued += await queue_upload(payment)
        if len(page) < 200:
            return queued
        last = page[-1].id


@unit_of_work
async def _queue_failed_again(app_id: UUID) -> int:
    failed = await ShippingUpload.filter(app_id=app_id, state=ShippingState.FAILED).select_for_update()
    for upload in failed:
        SHIPPING_MACHINE.enter(upload, ShippingState.QUEUED, next_check_at=clock.now(), attempts=0)
        await upload.save(update_fields=["state", "next_check_at", "attempts"])
    return len(failed)


async def sweep_shipping(limit: int = 100) -> int:
    """Upload what is due; how many were taken up."""
    due = await ShippingUpload.filter(next_check_at__lte=clock.now()).order_by("next_check_at").limit(limit)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def work(upload_id: UUID) -> bool:
        async with gate:
            try:
                return await upload_shipping(upload_id) is not None
            except Exception:  # one payment's trouble must not keep the others waiting; its lease runs out
                log.exception("shipping_failed", upload_id=str(upload_id))
                return True

    return sum(await asyncio.gather(*(work(upload.id) for upload in due)))


async def upload_shipping(upload_id: UUID) -> ShippingState | None:
    """Tell WeChat of one payment; its state afterwards, None when there was nothing to do.

    48001 (the app is not under 发货信息管理) ends it for the whole app until a manager switches it on again.
    """
    upload = await _take(upload_id)
    if upload is None:
        return None
    app = await WechatApp.get(id=upload.app_id)
    if app.shipping_since_at is None:
        return await _decide(upload_id, ShippingState.FAILED, app.shipping_refusal or "switched_off")
    attempt = await PaymentAttempt.get(payment_id=upload.payment_id, state=AttemptState.PAID)
    assert attempt.transaction_id is not None
    try:
        await miniprogram.upload_shipping_info(
            app, attempt.transaction_id, attempt.openid, await _description(upload.payment_id)
        )
    except miniprogram.WechatAway as error:
        return await _later(upload_id, str(error))
    except miniprogram.WechatSaysNo as error:
        return await _refused(app, upload_id, error.errcode)
    return await _decide(upload_id, ShippingState.UPLOADED, "")


async def _refused(app: WechatApp, upload_id: UUID, errcode: int) -> ShippingState:
    if errcode in _AGAIN:
        return await _later(upload_id, str(errcode))
    if errcode in _DONE:
        return await _decide(upload_id, ShippingState.UPLOADED, str(errcode))
    log.error("shipping_refused", app_id=str(app.id), upload_id=str(upload_id), errcode=errcode)
    if errcode == _NOT_ENABLED:
        await _switch_off(app.id, str(errcode))
    return await _decide(upload_id, ShippingState.FAILED, str(errcode))


async def _description(payment_id: UUID) -> str:
    """``2026年11月物业费、2026年10月水费``: at most 120 characters."""
    chosen = await PaymentBill.filter(payment_id=payment_id).values_list("bill_id", flat=True)
    titles = await Bill.filter(id__in=chosen).order_by("id").values_list("title", flat=True)
    words = "、".join(dict.fromkeys(str(title) for title in titles)) or "物业缴费"
    return words if len(words) <= _LONGEST_DESCRIPTION else words[: _LONGEST_DESCRIPTION - 1] + "…"


@unit_of_work
async def _switch_off(app_id: UUID, refusal: str) -> None:
    app = await WechatApp.select_for_update().get(id=app_id)
    if app.shipping_since_at is not None:
        app.shipping_since_at, app.shipping_refusal = None, refusal
        await app.save(update_fields=["shipping_since_at", "shipping_refusal"])


@unit_of_work
async def _take(upload_id: UUID) -> ShippingUpload | None:
    """Lease a due upload for a minute, unless somebody else has."""
    upload = await ShippingUpload.select_for_update().get_or_none(id=upload_id)
    if upload is None or upload.next_check_at is None or upload.next_check_at > clock.now():
        return None
    upload.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
    await upload.save(update_fields=["next_check_at"])
    return upload


@unit_of_work
async def _decide(upload_id: UUID, state: ShippingState, detail: str) -> ShippingState:
    upload = await ShippingUpload.select_for_update().get(id=upload_id)
    if upload.state is ShippingState.QUEUED:
        uploaded_at = clock.now() if state is ShippingState.UPLOADED else None
        SHIPPING_MACHINE.enter(upload, state, detail=detail, next_check_at=None, uploaded_at=uploaded_at)
        await upload.save(update_fields=["state", "detail", "next_check_at", "uploaded_at"])
    return upload.state


@unit_of_work
async def _later(upload_id: UUID, detail: str) -> ShippingState:
    upload = await ShippingUpload.select_for_update().get(id=upload_id)
    if upload.state is not ShippingState.QUEUED:
        return upload.state
    upload.attempts += 1
    if upload.attempts > len(RETRY_S):
        SHIPPING_MACHINE.enter(upload, ShippingState.FAILED, detail=detail[:200], next_check_at=None)
    else:
        upload.next_check_at = clock.now() + timedelta(seconds=RETRY_S[upload.attempts - 1])
        upload.detail = detail[:200]
    await upload.save(update_fields=["state", "attempts", "next_check_at", "detail"])
    return upload.state
