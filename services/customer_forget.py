"""A former customer becomes a pseudonym: the company's own duty to keep no more than it needs (PIPL art. 19, 47).

Bills, payments, receipts and entries stay, for the accounting law keeps them; they name the customer's row, and that
row then holds 客户 and the last letters of its id.
"""

from collections.abc import Mapping
from uuid import UUID

from kit import clock
from kit.errors import Refusal
from kit.money import format_yuan
from kit.text import mask_in_text, normalise
from models import audit
from models.access import Act, Actor, require_somewhere
from models.base import get_visible
from models.customer import Customer
from models.occupancy import Occupancy
from models.unit_of_work import row, unit_of_work
from services.customer import require_over_customer
from services.occupancy import release_tx

_OPEN_MATTERS = """
SELECT
    (SELECT count(*) FROM occupancies
     WHERE customer_id = $1 AND (ends_on IS NULL OR (ends_on >= $2 AND ends_on >= starts_on))) AS occupancies,
    (SELECT count(*) FROM bills WHERE customer_id = $1 AND state IN ('draft', 'open', 'part_paid')) AS open_bills,
    (SELECT count(*) FROM payments p WHERE p.customer_id = $1 AND (p.state = 'open' OR EXISTS (
        SELECT FROM payment_attempts a WHERE a.payment_id = p.id AND a.state IN ('created', 'prepaid')))) AS payments,
    (SELECT count(*) FROM discrepancies d JOIN payments p ON p.id = d.payment_id
     WHERE p.customer_id = $1 AND d.state = 'open') AS cases,
    (SELECT count(*) FROM refunds
     WHERE customer_id = $1 AND state IN ('asked', 'approved', 'processing', 'failed')) AS refunds,
    -- Prepaid, deposit and surplus: what an account of theirs holds, whichever way.
    (SELECT COALESCE(sum(abs(held.fen)), 0)::bigint FROM (
        SELECT (SELECT COALESCE(sum(amount_fen), 0) FROM entries WHERE credit_account_id = a.id)
             - (SELECT COALESCE(sum(amount_fen), 0) FROM entries WHERE debit_account_id = a.id) AS fen
        FROM accounts a WHERE a.holder_id = $1) AS held) AS balance_fen
"""


class CustomerStillNeeded(Refusal):
    """The facts say what is open: rooms, bills, payments under way, cases of finance, a balance."""

    zh = (
        "暂不能清除这位客户的个人信息：在登记的房屋{occupancies}处，未结账单{open_bills}张，进行中的支付{payments}笔，"
        "待处理差错{cases}件，进行中的退款{refunds}笔，余额{balance}元。"
    )
    en = (
        "This customer is still needed: {occupancies} rooms, {open_bills} unsettled bills, {payments} payments under "
        "way, {cases} open cases, {refunds} refunds under way, a balance of {balance} yuan."
    )


def pseudonym(word: str, row_id: UUID) -> str:
    """``住户7K2M9Q``: what is left of a name. The letters are the last of the id, so that a ledger can be followed."""
    return f"{word}{row_id.hex[-6:].upper()}"


async def open_matters(customer_id: UUID) -> Mapping[str, int]:
    """What keeps a customer from being forgotten, each counted; all zero when nothing does. ``balance_fen`` adds up
    what accounts of theirs hold."""
    return await row(_OPEN_MATTERS, customer_id, clock.today()) or {}


@unit_of_work
async def forget_customer(actor: Actor, customer_id: UUID, reason: str) -> Customer:
    """Afterwards the register holds neither name, phone nor ID number of this former customer, and no resident is tied
    to them any more. A second click finds it done. Refuses NotFound, NotPermitted (the actor must manage each of the
    customer's communities), CustomerStillNeeded."""
    require_somewhere(actor, Act.CUSTOMER_FORGET)
    customer = await get_visible(Customer.visible_to(actor).select_for_update(), customer_id)
    await require_over_customer(actor, Act.CUSTOMER_FORGET, customer)
    if customer.forgotten_at is not None:
        return customer
    matters = await open_matters(customer.id)
    if any(matters.values()):
        raise CustomerStillNeeded(**matters, balance=format_yuan(matters["balance_fen"]))
    for occupancy in await Occupancy.filter(customer_id=customer.id).order_by("id").select_for_update():
        if occupancy.resident_id is not None:
            await release_tx(actor, occupancy)
    await blank_customer_tx(actor, customer, mask_in_text(normalise(reason)))
    return customer


async def blank_customer_tx(actor: Actor, customer: Customer, reason: str = "") -> None:
    """Put the pseudonym into the (locked) row and empty what is personal; the caller has checked that it may."""
    values = {
        "name": pseudonym("客户", customer.id),
        "phone_cipher": None,
        "phone_index": None,
        "phone_masked": "",
        "id_number_cipher": None,
        "forgotten_at": clock.now(),
    }
    customer.update_from_dict(values)
    await customer.save(update_fields=list(values))
    await audit.record_tx(
        actor, "customer.forget", "customer", customer.id, organization_id=customer.organization_id,
        after={"reason": reason} if reason else None,
    )  # fmt: skip
