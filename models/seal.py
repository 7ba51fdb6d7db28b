"""封条 seals: what stood in the journal and the audit when it was sealed. Nothing changes it unseen afterwards."""

from tortoise import fields
from tortoise.models import Model

from kit import clock

NOTHING_BEFORE = "0" * 64
"""The previous digest of the first seal of a scope."""


class Seal(Model):
    """A range of row ids and the digest of every row in it, tied to the seal before. Append-only.

    A scope is a table, or a month of the audit (``audits/2026-11``), which retention lets go of as a whole. Ranges of
    a scope touch: no id is between them. Unique: (scope, first row) and (scope, previous digest), so of two sealers at
    once one is refused.
    """

    id = fields.BigIntField(primary_key=True)
    scope = fields.CharField(max_length=32)
    version = fields.SmallIntField()  # which columns were read, and how: services/seal_text.py
    first_row = fields.BigIntField()
    last_row = fields.BigIntField()
    row_count = fields.IntField()
    digest = fields.CharField(max_length=64)
    previous_digest = fields.CharField(max_length=64)
    outline = fields.BinaryField()  # 12 bytes a row, its id and the start of its hash: names the row that differs
    sealed_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "seals"
        unique_together = (("scope", "first_row"), ("scope", "previous_digest"))
