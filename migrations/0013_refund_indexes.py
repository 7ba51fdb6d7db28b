"""What is unique of allocations and of bills now that money goes back: built while the others go on, each by itself.

Whoever is stopped in between runs it again: what was left unfinished is dropped first.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops


def _anew(name: str, rule: str) -> list[ops.RunSQL]:
    return [
        ops.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"),
        ops.RunSQL(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {rule}"),
    ]


class Migration(migrations.Migration):
    dependencies = [("linli", "0013_refund_in_full")]

    initial = False
    atomic = False

    operations = [
        *_anew("allocations_paid", "allocations (payment_id, bill_line_id) WHERE refund_id IS NULL"),
        *_anew("allocations_given_back", "allocations (refund_id, bill_line_id) WHERE refund_id IS NOT NULL"),
        *_anew(
            "bills_one_live_uncredited",
            "bills (community_id, subject_kind, subject_id, purpose) WHERE state NOT IN ('void', 'credited')",
        ),
        ops.RunSQL("DROP INDEX IF EXISTS bills_one_live"),
        ops.RemoveConstraint(
            model_name="Allocation",
            name=None,
            fields=["payment_id", "bill_line_id"],
        ),
        ops.AlterModelOptions(
            name="Allocation",
            options={
                "table": "allocations",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "Which fen of a payment went to which bill line, and, negative, which a refund took back from it. Append-only.",
            },
        ),
    ]
