"""同意: who agreed to which version of which policy, and who took it back. Rows are only ever added."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Actor
from models.base import Row


class ConsentStep(StrEnum):
    """What somebody did; of several rows about one policy the last one counts."""

    GIVEN = "given"  # 同意
    WITHDRAWN = "withdrawn"  # 撤回同意


class ConsentChannel(StrEnum):
    """How we know."""

    APP = "app"  # by the resident's own hand
    COUNTER = "counter"  # 前台: on paper, noted by a member of staff


class Consent(Row):
    """One step of one resident about one version of a policy."""

    organization_id = fields.UUIDField()
    resident_id = fields.UUIDField(db_index=True)
    policy_id = fields.UUIDField()
    step = fields.CharEnumField(ConsentStep, max_length=32)
    channel = fields.CharEnumField(ConsentChannel, max_length=32)
    staff_id = fields.UUIDField(null=True)  # who noted it at the counter

    class Meta:
        table = "consents"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Consent"]:
        """Residents: their own."""
        return cls.filter(resident_id=actor.id) if actor.is_resident else cls.filter(id=None)
