"""科目余额 and 试算平衡: what the accounts of the journal hold, and how they moved."""

from services.finance_report import Family
from services.finance_sql import PER_ACCOUNT, SIDES

# Money of others and income grow on the credit side, the rest on the debit side; docs/ledger.md has the table.
_GROWS_BY_CREDIT = "('received', 'prepaid', 'deposit', 'surplus', 'suspense', 'refund_pending')"

_SINCE = "AND ($2::date IS NULL OR e.posted_on >= $2)"
_SIGN = f"CASE WHEN a.kind IN {_GROWS_BY_CREDIT} THEN -1 ELSE 1 END"
_BEFORE = "COALESCE(sum(e.amount_fen) FILTER (WHERE e.posted_on < $2), 0)"
_WITHIN = "COALESCE(sum(e.amount_fen) FILTER (WHERE e.posted_on >= $2), 0)"

_ACCOUNT = ("legal_entity_id", "community_id", "account_kind", "holder_id", "account_id")

BALANCES = Family(
    name="balances",
    title="科目余额",
    atoms=SIDES.format(
        figures=f"side.debit_fen, side.credit_fen, (side.debit_fen - side.credit_fen) * {_SIGN} AS balance_fen",
        more=_SINCE,
    ),
    rollup=PER_ACCOUNT.format(
        figures=f"debit_fen, credit_fen, (debit_fen - credit_fen) * {_SIGN} AS balance_fen",
        debits="sum(e.amount_fen) AS debit_fen, 0 AS credit_fen",
        credits="0, sum(e.amount_fen)",
        more=_SINCE,
    ),
    groups={"holder": _ACCOUNT, "account": ("legal_entity_id", "community_id", "account_kind")},
    figures=("debit_fen", "credit_fen", "balance_fen"),
)
"""Per holder: positive is what the account is meant to hold, a liability or a means."""

TRIAL = Family(
    name="trial-balance",
    title="试算平衡表",
    atoms=SIDES.format(
        figures="""
    CASE WHEN e.posted_on < $2 THEN side.debit_fen - side.credit_fen ELSE 0 END AS opening_fen,
    CASE WHEN e.posted_on >= $2 THEN side.debit_fen ELSE 0 END AS debit_fen,
    CASE WHEN e.posted_on >= $2 THEN side.credit_fen ELSE 0 END AS credit_fen,
    side.debit_fen - side.credit_fen AS closing_fen""",
        more="",
    ),
    rollup=PER_ACCOUNT.format(
        figures="opening_fen, debit_fen, credit_fen, opening_fen + debit_fen - credit_fen AS closing_fen",
        debits=f"{_BEFORE} AS opening_fen, {_WITHIN} AS debit_fen, 0 AS credit_fen",
        credits=f"-{_BEFORE}, 0, {_WITHIN}",
        more="",
    ),
    groups={
        "account": ("legal_entity_id", "account_kind"),
        "community": ("legal_entity_id", "community_id", "account_kind"),
        "holder": _ACCOUNT,
    },
    figures=("opening_fen", "debit_fen", "credit_fen", "closing_fen"),
)
"""Of a span of days. Opening and closing are debit less credit, so each adds up to nothing over all accounts; debits
equal credits."""
