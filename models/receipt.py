"""收据: numbered without gaps per legal entity, community and year."""

from enum import StrEnum

from tortoise import fields
from tortoise.expressions import Q
from tortoise.fields.db_defaults import SqlDefault
from tortoise.models import Model
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row, json_field


class ReceiptFormat(StrEnum):
    """The paper that a receipt is laid out for."""

    A4 = "a4"
    ROLL_80MM = "80mm"  # 热敏小票


class Receipt(Row):
    """One receipt a payment. ``content`` is what was printed, frozen: names, bills, lines, amounts."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    customer_id = fields.UUIDField()
    payer_resident_id = fields.UUIDField(null=True)
    payment_id = fields.UUIDField(unique=True)
    year = fields.SmallIntField()
    sequence = fields.IntField()
    number = fields.CharField(max_length=40)
    amount_fen = fields.BigIntField()
    issued_on = fields.DateField()
    content = json_field()
    serial = fields.BigIntField(db_default=SqlDefault("nextval('receipts_serial_seq')"))  # the order for seals

    class Meta:
        table = "receipts"
        unique_together = (("legal_entity_id", "community_id", "year", "sequence"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Receipt"]:
        """Staff who may read receipts; residents: of what they paid, and of what was paid of what they owe."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.RECEIPT_READ))
        return cls.filter(
            Q(payer_resident_id=actor.id) | Q(customer_id__in=actor.customer_ids),
            organization_id=actor.organization_id,
        )


class ReceiptCounter(Model):
    """The last number given, locked while the next is taken."""

    id = fields.BigIntField(primary_key=True)
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    year = fields.SmallIntField()
    last_sequence = fields.IntField()

    class Meta:
        table = "receipt_counters"
        unique_together = (("legal_entity_id", "community_id", "year"),)


class ReceiptPrint(Row):
    """A copy on paper, asked for by a member of staff and counted. The second and later ones say 补打."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    receipt_id = fields.UUIDField()
    format = fields.CharEnumField(ReceiptFormat, max_length=32)
    copy_number = fields.IntField()
    staff_id = fields.UUIDField()
    printed_by = fields.CharField(max_length=100)  # the name as it is on the paper

    class Meta:
        table = "receipt_prints"
        unique_together = (("receipt_id", "copy_number"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["ReceiptPrint"]:
        """Staff who may read receipts."""
        return cls.filter(community_id__in=actor.community_ids(Act.RECEIPT_READ) if actor.is_staff else [])


class ReceiptFileState(StrEnum):
    """The life of a file."""

    QUEUED = "queued"
    MADE = "made"
    FAILED = "failed"  # it could not be made, however often; asking again tries again


RECEIPT_FILE_MACHINE = StateMachine(
    noun="receipt_file",
    moves={
        ReceiptFileState.QUEUED: (ReceiptFileState.MADE, ReceiptFileState.FAILED),
        ReceiptFileState.FAILED: (ReceiptFileState.QUEUED,),
    },
    required={ReceiptFileState.MADE: ("body", "sha256", "made_at")},
)


class ReceiptFile(Row):
    """A receipt as PDF, made once and kept for a while. Unique: (receipt, format, masked, print, template version).

    It is a cache: the same receipt makes the same bytes again, so old ones are forgotten.
    """

    community_id = fields.UUIDField()
    receipt_id = fields.UUIDField()
    format = fields.CharEnumField(ReceiptFormat, max_length=32)
    masked = fields.BooleanField()  # for somebody who paid for another household: the debtor's surname only
    print_id = fields.UUIDField(null=True)  # null: the electronic one
    template_version = fields.SmallIntField()
    state = fields.CharEnumField(ReceiptFileState, max_length=32, default=ReceiptFileState.QUEUED)
    attempts = fields.IntField(default=0)
    next_check_at = fields.DatetimeField(null=True)
    detail = fields.CharField(max_length=200, default="")
    body = fields.BinaryField(null=True)
    sha256 = fields.CharField(max_length=64, null=True)
    made_at = fields.DatetimeField(null=True)

    class Meta:
        table = "receipt_files"
