"""科目余额 and 试算平衡: what the accounts of the journal hold, and how they moved."""

from services.finance_report import Family
from services.finance_sql import SIDES

# Money of others and income grow on the credit side, the rest on the debit side; docs/ledger.md has the table.
_GROWS_BY_CREDIT = "('received', 'prepaid', 'deposit', 'surplus', 'suspense', 'refund_pending')"

_ACCOUNT = ("legal_entity_id", "community_id", "account_kind", "holder_id", "account_id")

BALANCES = Family(
    name="balances",
    title="科目余额",
    atoms=SIDES.format(
        figures=f"""side.debit_fen, side.credit_fen,
    (side.debit_fen - side.credit_fen) * CASE WHEN a.kind IN {_GROWS_BY_CREDIT} THEN -1 ELSE 1 END AS balance_fen""",
        more="AND ($2::date IS NULL OR e.posted_on >= $2)",
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
    groups={
        "account": ("legal_entity_id", "account_kind"),
        "community": ("legal_entity_id", "community_id", "account_kind"),
        "holder": _ACCOUNT,
    },
    figures=("opening_fen", "debit_fen", "credit_fen", "closing_fen"),
)
"""Of a span of days. Opening and closing are debit less credit, so each adds up to nothing over all accounts; debits
equal credits."""
