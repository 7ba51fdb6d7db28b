"""Builders: a company, its community, its rooms, its people and their bills — made by the real code where it counts."""

import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

import payments
from kit import clock
from kit.crypto import Keyring
from kit.ids import new_id
from kit.text import mask_phone, natural_key
from models import secret
from models.access import ActorKind, Role, system_actor
from models.bill import Bill, BillKind
from models.community import Community
from models.customer import PHONE_CONTEXT, Customer, CustomerKind
from models.fee_item import FeeItem
from models.merchant_account import (
    APIV3_KEY_CONTEXT,
    PRIVATE_KEY_CONTEXT,
    MerchantAccount,
    WechatPayKey,
    WechatPayKeyKind,
)
from models.message import MessageKind
from models.occupancy import Occupancy, OccupancyKind
from models.organization import LegalEntity, Organization
from models.resident import Resident, WechatIdentity
from models.room import Building, Room, Unit
from models.staff import Staff, StaffRole
from models.unit_of_work import unit_of_work
from models.wechat_app import SECRET_CONTEXT, WechatApp
from sandbox.app import open_context
from sandbox.config import Config
from sandbox.person import register_app
from sandbox.platform_key import make_key_pair
from services.session import create_session_tx

KEYRING = Keyring({"test": b"k" * 32}, "test", b"i" * 32)
TEMPLATES = {kind.value: f"template-{kind.value}" for kind in MessageKind}


@dataclass(frozen=True)
class AtWechat:
    """A merchant and a mini-program as WeChat knows them."""

    mchid: str
    serial_no: str
    apiv3_key: str
    private_key: str
    public_key: str
    appid: str
    app_secret: str
    platform: dict[str, Any]
    platform_private_key: str  # WeChat's own, so that a test can say what WeChat would never say


@cache
def registered_at_wechat(state: Path) -> tuple[AtWechat, ...]:
    """Three merchants, the first two sharing an app, written to a sandbox state file that tests copy."""
    context = open_context(Config(state))
    made = []
    for number, app in ((1, 1), (2, 1), (3, 2)):
        public_key, private_key = make_key_pair()
        mchid, appid, serial_no = f"190000000{number}", f"wx00000000000000{app:02d}", secrets.token_hex(20).upper()
        apiv3_key, app_secret = secrets.token_hex(16), f"secret-of-app-{app}"
        platform = context.merchants.register(mchid, serial_no, public_key, apiv3_key, [appid])
        register_app(context, appid, app_secret, f"小程序{app}", {one: one for one in TEMPLATES.values()})
        merchant = context.merchants.get(mchid)
        assert merchant is not None
        own_key = merchant.platform_key.private_key
        made.append(
            AtWechat(mchid, serial_no, apiv3_key, private_key, public_key, appid, app_secret, platform, own_key)
        )
    context.store.close()
    return tuple(made)


@dataclass
class Company:
    """An organization with what it needs to take money."""

    organization: Organization
    legal_entity: LegalEntity
    app: WechatApp
    merchant: MerchantAccount
    wechat: AtWechat

    @property
    def id(self) -> UUID:
        return self.organization.id


@dataclass
class Person:
    """Somebody signed in: a client that carries the session."""

    api: httpx.AsyncClient
    token: str
    resident: Any = None
    staff: Any = None
    openid: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **self.extra}

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.api.get(path, headers=self.headers, **options)

    async def post(self, path: str, document: Any = None, *, key: str | None = None, **options: Any) -> httpx.Response:
        """A POST with a fresh Idempotency-Key unless one is given."""
        headers = self.headers | {"Idempotency-Key": key or secrets.token_hex(8)} | options.pop("headers", {})
        return await self.api.post(path, json=document, headers=headers, **options)

    async def put(self, path: str, document: Any) -> httpx.Response:
        return await self.api.put(path, json=document, headers=self.headers)

    async def patch(self, path: str, document: Any) -> httpx.Response:
        return await self.api.patch(path, json=document, headers=self.headers)

    async def delete(self, path: str) -> httpx.Response:
        return await self.api.delete(path, headers=self.headers)


class World:
    """Makes rows. Everything has a sensible default; name only what the test is about."""

    def __init__(
        self, api: httpx.AsyncClient, login_code: Callable[[str, str], Awaitable[str]], wechat: tuple[AtWechat, ...]
    ) -> None:
        self.api = api
        self.login_code = login_code
        self.wechat = wechat
        self._phones = 13900000000
        self._companies = 0

    def phone(self) -> str:
        """A phone number that nobody else has."""
        self._phones += 1
        return str(self._phones)

    async def company(self, number: int | None = None, name: str = "") -> Company:
        """An organization whose app and merchant are registered at the sandbox; ``number`` 0 and 1 share an app's
        company at most once each, so use 0 and 2 for two companies with apps of their own."""
        index = number if number is not None else (0, 2)[self._companies]
        self._companies += 1
        at = self.wechat[index]
        organization = await Organization.create(name=name or f"物业公司{index + 1}")
        entity = await LegalEntity.create(organization_id=organization.id, name=f"{organization.name}有限公司")
        app = await WechatApp.create(
            organization_id=organization.id,
            appid=at.appid,
            name="小程序",
            secret_cipher=secret.encrypt(at.app_secret, SECRET_CONTEXT),
            templates=TEMPLATES,
        )
        merchant = await self.merchant(organization.id, entity.id, at)
        return Company(organization, entity, app, merchant, at)

    async def merchant(self, organization_id: UUID, legal_entity_id: UUID, at: AtWechat) -> MerchantAccount:
        """A merchant account with WeChat's keys of both kinds."""
        account = await MerchantAccount.create(
            organization_id=organization_id,
            legal_entity_id=legal_entity_id,
            name=f"商户{at.mchid}",
            mchid=at.mchid,
            serial_no=at.serial_no,
            private_key_cipher=secret.encrypt(at.private_key, PRIVATE_KEY_CONTEXT),
            apiv3_key_cipher=secret.encrypt(at.apiv3_key, APIV3_KEY_CONTEXT),
        )
        keys = [(at.platform["public_key_id"], WechatPayKeyKind.PUBLIC_KEY, at.platform["public_key"])]
        keys += [
            (one["serial_no"], WechatPayKeyKind.CERTIFICATE, one["certificate"]) for one in at.platform["certificates"]
        ]
        for serial, kind, pem in keys:
            await WechatPayKey.create(merchant_account_id=account.id, serial=serial, kind=kind, public_key_pem=pem)
        return account

    async def community(self, company: Company, name: str = "阳光花园", **settings: Any) -> Community:
        """A community whose money goes to the company's merchant account."""
        values = {"code": f"C{secrets.token_hex(3)}", "merchant_account_id": company.merchant.id, **settings}
        return await Community.create(organization_id=company.id, name=name, **values)

    async def room(self, community: Community, name: str = "3栋1单元1201", area_m2: str = "89.53") -> Room:
        """A room with its building and unit."""
        building_name, rest = name.split("栋")
        unit_name, number = rest.split("单元")
        building, _ = await Building.get_or_create(
            {"natural_key": natural_key(f"{building_name}栋")}, community_id=community.id, name=f"{building_name}栋"
        )
        unit, _ = await Unit.get_or_create(
            {"natural_key": natural_key(f"{unit_name}单元")},
            community_id=community.id,
            building_id=building.id,
            name=f"{unit_name}单元",
        )
        return await Room.create(
            community_id=community.id,
            building_id=building.id,
            unit_id=unit.id,
            number=number,
            name=name,
            natural_key=natural_key(name),
            area_m2=Decimal(area_m2),
        )

    async def customer(
        self, company: Company, name: str = "业主甲", phone: str | None = None, by: "Person | None" = None
    ) -> Customer:
        """Somebody on the register; ``by`` is the member of staff who registered them."""
        phone = phone or self.phone()
        return await Customer.create(
            organization_id=company.id,
            kind=CustomerKind.PERSON,
            name=name,
            phone_cipher=secret.encrypt(phone, PHONE_CONTEXT),
            phone_index=secret.blind_index(phone, PHONE_CONTEXT),
            phone_masked=mask_phone(phone),
            registered_by_staff_id=by.staff.id if by else None,
        )

    async def occupancy(
        self,
        room: Room,
        customer: Customer,
        kind: OccupancyKind = OccupancyKind.OWNER,
        *,
        resident: Resident | None = None,
        starts_on: date = date(2020, 1, 1),
        ends_on: date | None = None,
    ) -> Occupancy:
        """A line of the register, claimed when a resident is given."""
        return await Occupancy.create(
            organization_id=customer.organization_id,
            community_id=room.community_id,
            room_id=room.id,
            customer_id=customer.id,
            kind=kind,
            starts_on=starts_on,
            ends_on=ends_on,
            resident_id=resident.id if resident else None,
            claimed_at=clock.now() if resident else None,
        )

    async def resident(self, company: Company, phone: str | None = None) -> Person:
        """Somebody signed in to the company's mini-program, bound to nothing yet."""
        resident = await Resident.create(
            organization_id=company.id,
            phone_cipher=phone and secret.encrypt(phone, PHONE_CONTEXT),
            phone_index=phone and secret.blind_index(phone, PHONE_CONTEXT),
            phone_masked=mask_phone(phone) if phone else "",
        )
        openid = f"o{base64.urlsafe_b64encode(secrets.token_bytes(20)).decode()[:27].replace('-', 'A')}"
        await WechatIdentity.create(
            organization_id=company.id, app_id=company.app.id, openid=openid, resident_id=resident.id
        )
        await self.login_code(openid, company.app.appid)  # WeChat knows an openid once its owner opened the app
        token = await _resident_session(company, resident)
        return Person(self.api, token, resident=resident, openid=openid)

    async def owner(self, company: Company, room: Room, name: str = "业主甲") -> tuple[Person, Customer]:
        """A signed-in owner of the room."""
        customer = await self.customer(company, name)
        person = await self.resident(company)
        await self.occupancy(room, customer, resident=person.resident)
        return person, customer

    async def staff(self, company: Company, role: Role, community: Community | None = None) -> Person:
        """A signed-in member of staff; without a community the role holds in all of the organization."""
        staff = await Staff.create(
            organization_id=company.id, username=f"u{secrets.token_hex(6)}", password_hash="x", name=f"员工{role}"
        )
        await StaffRole.create(
            organization_id=company.id,
            staff_id=staff.id,
            community_id=community.id if community else None,
            role=role,
        )
        return Person(self.api, await _staff_session(staff), staff=staff)

    async def fee_item(self, company: Company, community: Community, name: str = "物业费", **values: Any) -> FeeItem:
        """Something that is charged for."""
        found = await FeeItem.get_or_none(community_id=community.id, name=name)
        return found or await FeeItem.create(
            organization_id=company.id,
            community_id=community.id,
            code=f"F{secrets.token_hex(3)}",
            name=name,
            legal_entity_id=values.pop("legal_entity_id", company.legal_entity.id),
            **values,
        )

    async def bill(
        self,
        company: Company,
        room: Room,
        customer: Customer,
        amount_fen: int = 25068,
        *,
        month: date = date(2026, 11, 1),
        item: FeeItem | None = None,
        kind: BillKind = BillKind.CHARGE,
        lines_fen: list[int] | None = None,
        draft: bool = False,
    ) -> Bill:
        """A bill issued by the real code; ``lines_fen`` splits the amount over several lines."""
        community = await Community.get(id=room.community_id)
        item = item or await self.fee_item(company, community)
        last = (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        amounts = lines_fen or [amount_fen]
        new = payments.NewBill(
            community_id=community.id,
            room_id=room.id,
            customer_id=customer.id,
            subject_kind="room",
            subject_id=room.id,
            purpose=f"{item.code}:{month:%Y-%m}:{kind}",
            title=f"{month:%Y年%m月}{item.name}",
            accrued_on=last,
            due_on=last,
            kind=kind,
            draft=draft,
            lines=[
                payments.NewLine(item.id, f"{item.name}{position}", fen, month.replace(day=1), last)
                for position, fen in enumerate(amounts, start=1)
            ],
        )
        return await unit_of_work(payments.issue_bill_tx)(system_actor("test"), new)

    async def home(self, *, bills: int = 1, **settings: Any) -> "Home":
        """The usual: a company, a community, a room, its signed-in owner, and some open bills, oldest first."""
        company = await self.company()
        community = await self.community(company, **settings)
        room = await self.room(community)
        owner, customer = await self.owner(company, room)
        made = [
            await self.bill(company, room, customer, 25068 + number, month=date(2026, 11 - bills + 1 + number, 1))
            for number in range(bills)
        ]
        return Home(company, community, room, owner, customer, made)


@dataclass
class Home:
    """See ``World.home``."""

    company: Company
    community: Community
    room: Room
    owner: Person
    customer: Customer
    bills: list[Bill]

    @property
    def bill_ids(self) -> list[str]:
        return [str(bill.id) for bill in self.bills]

    async def open(
        self, person: Person | None = None, bill_ids: list[str] | None = None, **options: Any
    ) -> httpx.Response:
        """Open a payment for the home's bills."""
        document = {"bill_ids": bill_ids or self.bill_ids, "channel": "wechat_jsapi"}
        return await (person or self.owner).post("/api/v1/payments", document, **options)


@unit_of_work
async def _resident_session(company: Company, resident: Resident) -> str:
    token, _ = await create_session_tx(
        kind=ActorKind.RESIDENT, organization_id=company.id, resident_id=resident.id, app_id=company.app.id
    )
    return token


@unit_of_work
async def _staff_session(staff: Staff) -> str:
    token, _ = await create_session_tx(kind=ActorKind.STAFF, organization_id=staff.organization_id, staff_id=staff.id)
    return token


def unknown_id() -> str:
    """An id that nothing has."""
    return str(new_id())
