"""发货信息: what WeChat is told of a paid order, where a mini-program has to tell it."""

from enum import StrEnum

from tortoise import fields

from kit.state_machine import StateMachine
from models.base import Row


class ShippingState(StrEnum):
    """The life of an upload."""

    QUEUED = "queued"
    UPLOADED = "uploaded"  # now, or WeChat says that it had been
    FAILED = "failed"  # WeChat refused it, or did not take it in time


SHIPPING_MACHINE = StateMachine(
    noun="shipping_upload",
    moves={
        ShippingState.QUEUED: (ShippingState.UPLOADED, ShippingState.FAILED),
        ShippingState.FAILED: (ShippingState.QUEUED,),  # asked for again
    },
    required={ShippingState.UPLOADED: ("uploaded_at",)},
)


class ShippingUpload(Row):
    """One a payment, however often its consequences run."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    app_id = fields.UUIDField()
    payment_id = fields.UUIDField(unique=True)
    state = fields.CharEnumField(ShippingState, max_length=32, default=ShippingState.QUEUED)
    attempts = fields.IntField(default=0)
    next_check_at = fields.DatetimeField(null=True)
    detail = fields.CharField(max_length=200, default="")
    uploaded_at = fields.DatetimeField(null=True)

    class Meta:
        table = "shipping_uploads"
