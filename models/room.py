"""楼栋, 单元, 房屋."""

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Act, Actor
from models.base import Row


class Building(Row):
    """楼栋."""

    community_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=50)
    natural_key = fields.CharField(max_length=200)

    class Meta:
        table = "buildings"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Building"]:
        """Staff who may read the register; residents of the same organization see names only, to ask for a room."""
        return cls.filter(community_id__in=actor.community_ids(Act.REGISTER_READ))


class Unit(Row):
    """单元: a staircase of a building."""

    community_id = fields.UUIDField()
    building_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=50)
    natural_key = fields.CharField(max_length=200)

    class Meta:
        table = "units"


class Room(Row):
    """房屋: flats, shops, stores; ``name`` is the full one that people write (``3栋1单元1201``)."""

    community_id = fields.UUIDField(db_index=True)
    building_id = fields.UUIDField()
    unit_id = fields.UUIDField(null=True)
    number = fields.CharField(max_length=50)  # 1201
    name = fields.CharField(max_length=150)
    natural_key = fields.CharField(max_length=200)
    area_m2 = fields.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        table = "rooms"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Room"]:
        """Staff who may read the register; residents: the rooms that they live in or own today."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.REGISTER_READ))
        return cls.filter(id__in=actor.room_ids)
