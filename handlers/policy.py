"""Policies: staff publish versions, residents read the current ones."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.change import Day
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.policy import Policy, PolicyKind
from services import consent as consent_service
from services import policy as service

TAG = "隐私政策与协议 policies"

Link = Annotated[str, Field(pattern=r"^https://[^\s<>\"]{1,490}$")]


class NewPolicyIn(Body):
    """``text`` or ``link``, or both. From the day ``effective_on`` everybody is asked to agree anew."""

    kind: PolicyKind
    number: str = Field(min_length=1, max_length=32, description="版本号")
    title: str = Field(min_length=1, max_length=100)
    text: str | None = Field(None, max_length=50_000)
    link: Link | None = None
    effective_on: Day


class PolicyOut(Out):
    id: Id
    kind: PolicyKind
    number: str
    title: str
    text: str | None
    link: str | None
    effective_on: date


class CurrentPolicyOut(PolicyOut):
    """``consented_at`` null: the resident does not agree to this version. ``if_withdrawn`` says what follows from
    taking the consent back."""

    consented_at: datetime | None
    if_withdrawn: str


class CurrentPoliciesOut(Out):
    """Null where the company has published none."""

    privacy: CurrentPolicyOut | None
    terms: CurrentPolicyOut | None


def _members(policy: Policy) -> dict[str, object]:
    return {
        "id": str(policy.id),
        "kind": policy.kind,
        "number": policy.number,
        "title": policy.title,
        "text": policy.text,
        "link": policy.link,
        "effective_on": policy.effective_on,
    }


def current_out(call: Call, current: list[consent_service.CurrentPolicy]) -> CurrentPoliciesOut:
    """The policies that count today as their reader sees them."""
    found = {
        one.policy.kind: CurrentPolicyOut(
            **_members(one.policy),
            consented_at=one.consented_at,
            if_withdrawn=consent_service.IF_WITHDRAWN[one.policy.kind][call.language],
        )
        for one in current
    }
    return CurrentPoliciesOut(privacy=found.get(PolicyKind.PRIVACY), terms=found.get(PolicyKind.TERMS))


async def _replay(call: Call, policy_id: UUID) -> PolicyOut:
    return PolicyOut(**_members(await service.get_policy(call.actor, policy_id)))


@route("GET", "/api/v1/policies", who=Who.RESIDENT, tag=TAG, summary="当前的隐私政策与服务协议",
       response=CurrentPoliciesOut)  # fmt: skip
async def get_current_policies(call: Call) -> CurrentPoliciesOut:
    """At most one of each kind, with the resident's own consent."""
    return current_out(call, await consent_service.list_current(call.actor))


@route("GET", "/api/v1/staff/policies", who=Who.STAFF, tag=TAG, summary="政策与协议的各版本", query=PageQuery,
       response=PageOut[PolicyOut], refusals=(NotPermitted,))  # fmt: skip
async def list_policies(call: Call) -> PageOut[PolicyOut]:
    """Newest first."""
    page = await service.list_policies(call.actor, call.query.cursor, call.query.limit)
    return PageOut[PolicyOut](items=[PolicyOut(**_members(one)) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/policies", who=Who.STAFF, tag=TAG, summary="发布政策或协议的新版本", body=NewPolicyIn,
       status=201, response=PolicyOut, replay=_replay, makes="policy", max_bytes=256 * 1024,
       refusals=(NotPermitted, service.PolicyNumberTaken, service.PolicyWordless))  # fmt: skip
async def publish_policy(call: Call) -> PolicyOut:
    """A published version is never changed; publish another one."""
    policy = await service.publish_policy(call.actor, service.NewPolicy(**dict(call.body)))
    return PolicyOut(**_members(policy))


@route("GET", "/api/v1/staff/policies/{policy_id}", who=Who.STAFF, tag=TAG, summary="政策版本详情",
       response=PolicyOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_policy(call: Call) -> PolicyOut:
    return PolicyOut(**_members(await service.get_policy(call.actor, call.id("policy_id"))))
