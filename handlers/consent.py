"""Consent: given and taken back by residents, noted at the counter by staff."""

from datetime import datetime

from handlers.policy import CurrentPoliciesOut, current_out
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.consent import ConsentChannel, ConsentStep
from models.policy import PolicyKind
from services import consent as service

TAG = "同意 consents"


class ConsentIn(Body):
    """The version that was read."""

    policy_id: str


class WithdrawalIn(Body):
    kind: PolicyKind


class ConsentOut(Out):
    """One step; of several about one version the last one counts."""

    id: Id
    policy_id: Id
    kind: PolicyKind
    number: str
    title: str
    step: ConsentStep
    channel: ConsentChannel
    at: datetime


def _out(view: service.ConsentView) -> ConsentOut:
    return ConsentOut(
        id=str(view.consent.id),
        policy_id=str(view.policy.id),
        kind=view.policy.kind,
        number=view.policy.number,
        title=view.policy.title,
        step=view.consent.step,
        channel=view.consent.channel,
        at=view.consent.created_at,
    )


@route("GET", "/api/v1/consents", who=Who.RESIDENT, tag=TAG, summary="我的同意记录", query=PageQuery,
       response=PageOut[ConsentOut])  # fmt: skip
async def list_consents(call: Call) -> PageOut[ConsentOut]:
    """Newest first."""
    page = await service.list_consents(call.actor, call.query.cursor, call.query.limit)
    return PageOut[ConsentOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/consents", who=Who.RESIDENT, tag=TAG, summary="同意政策或协议", body=ConsentIn,
       response=CurrentPoliciesOut, refusals=(NotFound, service.PolicyNotCurrent))  # fmt: skip
async def give_consent(call: Call) -> CurrentPoliciesOut:
    """To the current version, by its id; a second click changes nothing."""
    return current_out(call, await service.give_consent(call.actor, call.body.policy_id))


@route("POST", "/api/v1/consents/withdraw", who=Who.RESIDENT, tag=TAG, summary="撤回同意", body=WithdrawalIn,
       response=CurrentPoliciesOut, refusals=(service.ConsentNotGiven,))  # fmt: skip
async def withdraw_consent(call: Call) -> CurrentPoliciesOut:
    """``if_withdrawn`` of the policy says what follows; bills, payments and receipts are not touched."""
    return current_out(call, await service.withdraw_consent(call.actor, call.body.kind))


@route("POST", "/api/v1/staff/residents/{resident_id}/consents", who=Who.STAFF, tag=TAG, summary="登记前台签署的同意",
       body=ConsentIn, response=ConsentOut, refusals=(NotPermitted, NotFound, service.PolicyNotCurrent))  # fmt: skip
async def record_consent(call: Call) -> ConsentOut:
    """For a resident who signed on paper; a second click changes nothing."""
    return _out(await service.record_consent(call.actor, call.id("resident_id"), call.body.policy_id))
