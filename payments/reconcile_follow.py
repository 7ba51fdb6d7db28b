"""What follows from a difference: what is safe mends itself by the ordinary ways, the rest waits for a person.

Nothing is done on the bill's word alone: a file may be a liar's. WeChat is asked about the very number, and what it
answers goes the way of every answer.
"""

from uuid import UUID

import structlog

from kit import clock
from models.ledger import AccountKind, EntryKind
from models.merchant_account import MerchantAccount
from models.reconciliation import Difference, DifferenceAbout, DifferenceKind, DifferenceState
from models.refund import RefundAttempt
from models.unit_of_work import row, unit_of_work
from payments import janitor
from payments.errors import DifferenceNotConfirmed
from payments.gateways.base import GatewayError, RefundStatus
from payments.merchant import gateway_of
from payments.reconcile_post import commission_tx, post_entry_tx
from payments.refund_foreign import record_foreign_refund
from payments.refund_janitor import check_refund

log = structlog.get_logger()

AT_MOST = 500
"""How many differences of a day are asked about at a time: a day that differs everywhere is a person's work first."""

ONLY_COMMUNITY = """
SELECT min(id::text) AS id FROM (
    SELECT id FROM communities WHERE merchant_account_id = $1
    UNION SELECT community_id FROM fee_items WHERE merchant_account_id = $1
) paid HAVING count(*) = 1
"""


async def follow_up(reconciliation_id: UUID) -> int:
    """Ask WeChat about the open differences of a day that an answer can mend; how many were asked about.

    Afterwards an order or refund that WeChat knows otherwise than we did says what WeChat says, and money that only
    WeChat knew lies in suspense, where it is of one community. The day is to be compared again.
    """
    found = await Difference.filter(
        reconciliation_id=reconciliation_id,
        state=DifferenceState.OPEN,
        kind__in=(DifferenceKind.STATUS, DifferenceKind.ONLY_AT_WECHAT),
        about__in=(DifferenceAbout.PAYMENT, DifferenceAbout.REFUND),
        placed_fen=0,
    ).limit(AT_MOST)
    asked = 0
    for difference in found:
        try:
            asked += await _follow(difference)
        except GatewayError as error:
            log.warning("difference_not_asked", number=difference.number, code=error.code)
    return asked


async def _follow(difference: Difference) -> bool:
    payment = difference.about is DifferenceAbout.PAYMENT
    if difference.kind is DifferenceKind.STATUS:
        if payment and difference.attempt_id:
            await janitor.check_attempt(difference.attempt_id)
        elif difference.refund_attempt_id:
            await check_refund(difference.refund_attempt_id)
        return True
    confirmed = await (_confirmed_payment if payment else _confirmed_refund)(difference)
    if confirmed:
        await place(difference.id, None)
    return confirmed


async def _confirmed_payment(difference: Difference) -> bool:
    """Whether WeChat, asked for the number, has exactly this payment."""
    gateway = await gateway_of(difference.merchant_account_id, tries=1)
    paid = (await gateway.ask(difference.number)).paid
    return paid is not None and (paid.transaction_id, paid.amount_fen, paid.currency) == (
        difference.channel_number,
        difference.wechat_fen,
        "CNY",
    )


async def _confirmed_refund(difference: Difference) -> bool:
    """Whether WeChat, asked for the number, gave exactly this back; the case of a refund by hand is opened too."""
    gateway = await gateway_of(difference.merchant_account_id, tries=1)
    fact = await gateway.ask_refund(difference.number)
    if fact is None or (fact.refund_id, -fact.amount_fen) != (difference.channel_number, difference.wechat_fen):
        return False
    await record_foreign_refund(difference.merchant_account_id, fact)
    return fact.status is RefundStatus.SUCCESS


async def confirm(difference_id: UUID) -> None:
    """Ask WeChat about what only its bill knows. Refuses with DifferenceNotConfirmed when it says otherwise, does not
    answer, or the money was posted before."""
    difference = await Difference.get(id=difference_id)
    if difference.kind is not DifferenceKind.ONLY_AT_WECHAT or difference.placed_fen:
        raise DifferenceNotConfirmed()
    ask = {DifferenceAbout.PAYMENT: _confirmed_payment, DifferenceAbout.REFUND: _confirmed_refund}.get(difference.about)
    try:
        confirmed = ask is not None and await ask(difference)
    except GatewayError as error:
        log.warning("difference_not_asked", number=difference.number, code=error.code)
        confirmed = False
    if not confirmed:
        raise DifferenceNotConfirmed()


@unit_of_work
async def place(difference_id: UUID, community_id: UUID | None) -> bool:
    """``place_tx`` in a transaction of its own."""
    return await place_tx(difference_id, community_id)


async def place_tx(difference_id: UUID, community_id: UUID | None) -> bool:
    """Post money that WeChat confirmed and no book had: what came to suspense, what went out of suspense, with what
    WeChat kept of it. Once; False when it is not known of which community it is, or when it was posted before.
    """
    difference = await Difference.select_for_update().get(id=difference_id)
    account = await MerchantAccount.get(id=difference.merchant_account_id)
    community_id = community_id or difference.community_id
    if community_id is None:
        only = await row(ONLY_COMMUNITY, account.id)
        community_id = UUID(only["id"]) if only else None
    if community_id is None or difference.placed_fen or not difference.wechat_fen:
        return False
    refunded = difference.about is DifferenceAbout.REFUND
    if refunded and await RefundAttempt.exists(merchant_account_id=account.id, out_refund_no=difference.number):
        return False  # finance has said meanwhile what it was, and it is posted as such
    came = difference.wechat_fen > 0
    clearing, suspense = (AccountKind.WECHAT_CLEARING, account.id), (AccountKind.SUSPENSE, account.id)
    where = (account.organization_id, account.legal_entity_id, community_id)
    await post_entry_tx(
        EntryKind.WECHAT_UNIDENTIFIED if came else EntryKind.FOREIGN_REFUND,
        difference.id,
        place=where,
        debit=clearing if came else suspense,
        credit=suspense if came else clearing,
        amount_fen=abs(difference.wechat_fen),
        occurred_at=difference.occurred_at,
    )
    await commission_tx(where, account.id, difference.id, difference.fee_fen, difference.occurred_at)
    difference.placed_fen, difference.community_id = difference.wechat_fen, community_id
    await difference.save(update_fields=["placed_fen", "community_id"])
    log.error("money_in_suspense", number=difference.number, fen=difference.wechat_fen, at=clock.now().isoformat())
    return True
