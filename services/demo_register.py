"""The demo's register: rooms with owners, families and tenants, and who of them has signed in already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID

from kit import clock
from kit.text import mask_phone, natural_key
from models import secret
from models.customer import PHONE_CONTEXT, Customer, CustomerKind
from models.occupancy import Occupancy, OccupancyKind, OccupancyRequest
from models.resident import Resident, WechatIdentity
from models.room import Building, Room, Unit
from models.unit_of_work import unit_of_work
from services.demo_company import MadeCommunity, MadeCompany
from services.demo_names import Dice
from services.demo_plan import AREAS, PERSONAS, Habit, Home, Persona

SOLD_MONTHS_AGO = 2


@dataclass
class Household:
    """A room as the demo's bills and payments need it. ``owners`` is who owes from when on, in order."""

    room: Room
    owners: list[tuple[date, UUID]]
    habit: Habit
    parking: bool
    payer_resident_id: UUID | None = None
    payer_openid: str = ""

    def owner_on(self, day: date) -> UUID:
        """The customer who owes what accrues on a day."""
        return [customer_id for starts_on, customer_id in self.owners if starts_on <= day][-1]


@dataclass
class Person:
    """A persona in one company: what a script needs to be them."""

    persona: Persona
    name: str
    phone: str
    openid: str
    customer: Customer | None = None
    resident: Resident | None = None
    rooms: list[tuple[Room, Home]] = field(default_factory=list)


@dataclass
class _Rows:
    """Rows that are written at once, in this order."""

    buildings: list[Building] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    customers: list[Customer] = field(default_factory=list)
    residents: list[Resident] = field(default_factory=list)
    identities: list[WechatIdentity] = field(default_factory=list)
    occupancies: list[Occupancy] = field(default_factory=list)
    requests: list[OccupancyRequest] = field(default_factory=list)


class RegisterMaker:
    """Makes the register of one company."""

    def __init__(self, dice: Dice, company: MadeCompany, today: date, phones: Mapping[str, tuple[str, str]]) -> None:
        self.dice, self.company, self.today = dice, company, today
        self.made = _Rows()
        self.people: dict[str, Person] = {}
        self.households: dict[UUID, list[Household]] = {}
        for persona in PERSONAS:
            if persona.company == company.plan.key:
                name, phone = phones[persona.key]
                openid = dice.openid(f"{company.plan.key}:{persona.key}")
                self.people[persona.key] = Person(persona, name, phone, openid)

    async def make(self) -> None:
        """Fill the tables; afterwards ``households`` and ``people`` tell what there is."""
        for person in self.people.values():
            self._persona(person)
        for community in self.company.communities:
            self.households[community.community.id] = [
                self._household(community, room) for room in self._rooms(community)
            ]
        self._request()
        await _write(self.made)

    def _rooms(self, made: MadeCommunity) -> list[Room]:
        plan, rooms = made.plan, []
        for building_number in range(1, plan.buildings + 1):
            name = f"{building_number}栋"
            building = Building(community_id=made.community.id, name=name, natural_key=natural_key(name))
            self.made.buildings.append(building)
            for unit_number in range(1, plan.units + 1):
                unit_name = f"{unit_number}单元"
                unit = Unit(
                    community_id=made.community.id,
                    building_id=building.id,
                    name=unit_name,
                    natural_key=natural_key(unit_name),
                )
                self.made.units.append(unit)
                for floor in range(1, plan.floors + 1):
                    rooms += [self._room(made, building, unit, f"{floor}{door:02d}") for door in (1, 2)]
        self.made.rooms += rooms
        return rooms

    def _room(self, made: MadeCommunity, building: Building, unit: Unit, number: str) -> Room:
        name = f"{building.name}{unit.name}{number}"
        return Room(
            community_id=made.community.id,
            building_id=building.id,
            unit_id=unit.id,
            number=number,
            name=name,
            natural_key=natural_key(name),
            area_m2=self.dice.random.choice(AREAS),
        )

    def _customer(self, name: str, phone: str | None) -> Customer:
        customer = Customer(
            organization_id=self.company.organization.id,
            kind=CustomerKind.PERSON,
            name=name,
            phone_cipher=phone and secret.encrypt(phone, PHONE_CONTEXT),
            phone_index=phone and secret.blind_index(phone, PHONE_CONTEXT),
            phone_masked=mask_phone(phone) if phone else "",
        )
        self.made.customers.append(customer)
        return customer

    def _resident(self, name: str, phone: str | None, openid: str, since: datetime) -> Resident:
        resident = Resident(
            organization_id=self.company.organization.id,
            name=name,
            phone_cipher=phone and secret.encrypt(phone, PHONE_CONTEXT),
            phone_index=phone and secret.blind_index(phone, PHONE_CONTEXT),
            phone_masked=mask_phone(phone) if phone else "",
            phone_verified_at=since if phone else None,
            created_at=since,
        )
        self.made.residents.append(resident)
        self.made.identities.append(
            WechatIdentity(
                organization_id=self.company.organization.id,
                app_id=self.company.app.id,
                openid=openid,
                resident_id=resident.id,
                created_at=since,
            )
        )
        return resident

    def _persona(self, person: Person) -> None:
        """On the register when they have a home, signed in when they have claimed one (or ask for one)."""
        homes = person.persona.homes
        if homes:
            person.customer = self._customer(person.name, person.phone)
        if any(home.claimed for home in homes) or person.persona.key == "申请人":
            since = clock.now() - timedelta(days=300)
            person.resident = self._resident(person.name, person.phone, person.openid, since)

    def _household(self, made: MadeCommunity, room: Room) -> Household:
        here = [
            (person, home)
            for person in self.people.values()
            for home in person.persona.homes
            if (home.community, home.room) == (made.plan.code, room.name)
        ]
        handed_over = date(self.dice.random.randint(2017, 2022), self.dice.random.randint(1, 12), 15)
        household = Household(room, [], self._habit(here), parking=self.dice.chance(40))
        for person, home in here:
            self._settle_in(household, person, home, handed_over)
        if not household.owners:
            self._strangers(household, handed_over, keep_tenant_out=bool(here))
        return household

    def _habit(self, here: Sequence[tuple[Person, Home]]) -> Habit:
        if here:
            return here[0][1].habit
        weights = {
            Habit.PROMPT: 34,
            Habit.COMPLETE: 8,
            Habit.LATE: 28,
            Habit.BEHIND: 14,
            Habit.PART: 5,
            Habit.SILENT: 11,
        }
        return self.dice.random.choices(list(weights), list(weights.values()))[0]

    def _settle_in(self, household: Household, person: Person, home: Home, handed_over: date) -> None:
        """Put a persona into their room."""
        sold_on = months_before(self.today, SOLD_MONTHS_AGO)
        starts_on = {"buyer": sold_on, "tenant": months_before(self.today, 3)}.get(home.kind, handed_over)
        ends_on = sold_on - timedelta(days=1) if home.kind == "seller" else None
        kind = OccupancyKind(home.kind) if home.kind in ("family", "tenant") else OccupancyKind.OWNER
        if person.customer is None:
            raise ValueError(f"{person.persona.key} has a home and is on no register")
        claimed_by = person.resident if home.claimed else None
        self._occupancy(household.room, person.customer, kind, starts_on, ends_on, claimed_by)
        person.rooms.append((household.room, home))
        if kind is OccupancyKind.OWNER:
            household.owners.append((starts_on, person.customer.id))
            if claimed_by and home.kind != "buyer":
                household.payer_resident_id, household.payer_openid = claimed_by.id, person.openid

    def _strangers(self, household: Household, handed_over: date, *, keep_tenant_out: bool) -> None:
        """An owner, often a family, now and then a tenant. Who pays has signed in."""
        dice, room = self.dice, household.room
        surname = dice.surname()
        name, phone = dice.person(surname), dice.phone()
        owner = self._customer(name, phone)
        resident = None
        if household.habit is not Habit.SILENT:
            openid = dice.openid(f"{self.company.plan.key}:{phone}")
            resident = self._resident(name, phone, openid, clock.now() - timedelta(days=dice.random.randint(200, 400)))
            household.payer_resident_id, household.payer_openid = resident.id, openid
        self._occupancy(room, owner, OccupancyKind.OWNER, handed_over, None, resident)
        household.owners.append((handed_over, owner.id))
        if dice.chance(45):
            family = self._customer(dice.person(surname if dice.chance(50) else None), dice.phone())
            self._occupancy(room, family, OccupancyKind.FAMILY, handed_over, None, None)
        elif dice.chance(25) and not keep_tenant_out:
            tenant = self._customer(dice.person(), dice.phone())
            self._occupancy(room, tenant, OccupancyKind.TENANT, months_before(self.today, 8), None, None)

    def _occupancy(
        self,
        room: Room,
        customer: Customer,
        kind: OccupancyKind,
        starts_on: date,
        ends_on: date | None,
        resident: Resident | None,
    ) -> None:
        self.made.occupancies.append(
            Occupancy(
                organization_id=self.company.organization.id,
                community_id=room.community_id,
                room_id=room.id,
                customer_id=customer.id,
                kind=kind,
                starts_on=starts_on,
                ends_on=ends_on,
                resident_id=resident.id if resident else None,
                claimed_at=resident.created_at if resident else None,
            )
        )

    def _request(self) -> None:
        """Somebody waits for the butler's decision."""
        person = self.people.get("申请人")
        if person is None or person.resident is None:
            return
        room = self.made.rooms[7]
        self.made.requests.append(
            OccupancyRequest(
                organization_id=self.company.organization.id,
                community_id=room.community_id,
                room_id=room.id,
                resident_id=person.resident.id,
                kind=OccupancyKind.TENANT,
                name=person.name,
                note="上周刚搬进来，请帮忙绑定",
            )
        )


@unit_of_work
async def _write(made: _Rows) -> None:
    await Building.bulk_create(made.buildings)
    await Unit.bulk_create(made.units)
    await Room.bulk_create(made.rooms)
    await Customer.bulk_create(made.customers)
    await Resident.bulk_create(made.residents)
    await WechatIdentity.bulk_create(made.identities)
    await Occupancy.bulk_create(made.occupancies)
    await OccupancyRequest.bulk_create(made.requests)


def months_before(day: date, months: int) -> date:
    """The first day of the month so many months before."""
    index = day.year * 12 + day.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)
