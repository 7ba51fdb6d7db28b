"""同意: given to one version of a policy, taken back at any time; both are rows that stay (PIPL art. 14 to 16).

Where the company has published a policy, acts that take in personal data wait until its current version is agreed to.
Messages by subscription are another consent: WeChat asks for each, and keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.errors import Refusal
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require_at_one
from models.base import get_visible
from models.consent import Consent, ConsentChannel, ConsentStep
from models.occupancy import Occupancy, OccupancyRequest
from models.policy import Policy, PolicyKind
from models.resident import Resident
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.policy import current_policies
from services.resident_account import lock_account_tx, remove_phone_tx

IF_WITHDRAWN: Mapping[PolicyKind, Mapping[str, str]] = {
    PolicyKind.PRIVACY: {
        "zh": "撤回后，我们会删除您授权的手机号并撤回审核中的入住申请；再次同意之前，不能绑定手机号、申请房屋或邀请"
        "成员。已绑定的房屋、账单、缴费和收据不受影响，您仍可正常缴费。",
        "en": "We delete the phone number you shared and withdraw your pending requests for rooms; until you agree "
        "again you cannot share a phone, ask for a room or invite members. Rooms, bills, payments and receipts stay, "
        "and you can pay as before.",
    },
    PolicyKind.TERMS: {
        "zh": "撤回后，再次同意之前，不能绑定手机号、申请房屋或邀请成员。已有的信息不受影响，您仍可正常缴费；"
        "如不再使用，可以注销账号。",
        "en": "Until you agree again you cannot share a phone, ask for a room or invite members. What is there stays, "
        "and you can pay as before; to leave, close your account.",
    },
}
"""What follows from taking a consent back, in words for people, said before and after."""


class ConsentNeeded(Refusal):
    """A current policy is not agreed to; ``policies`` lists {id, kind, number, title}."""

    zh = "请先阅读并同意{titles}。"
    en = "Please read and agree to {titles} first."


class PolicyNotCurrent(Refusal):
    """Another version counts by now, or this one does not count yet."""

    zh = "这不是当前版本，请阅读最新版本后再同意。"
    en = "This is not the current version; please read the current one."


class ConsentNotGiven(Refusal):
    """There is nothing to take back."""

    zh = "您还没有同意过，无需撤回。"
    en = "No consent was given, so there is none to withdraw."


@dataclass(frozen=True)
class CurrentPolicy:
    """A policy that counts today, and since when the resident agrees to it (None: not)."""

    policy: Policy
    consented_at: datetime | None


@dataclass(frozen=True)
class ConsentView:
    """One step, and the policy that it is about."""

    consent: Consent
    policy: Policy


async def list_current(actor: Actor) -> list[CurrentPolicy]:
    """The policies that count today, each with the resident's own consent."""
    return await _current(actor.organization_id, actor.id)


async def _current(organization_id: UUID | None, resident_id: UUID | None) -> list[CurrentPolicy]:
    policies = await current_policies(organization_id)
    if not policies:
        return []
    last = await _last_steps(resident_id, [policy.id for policy in policies.values()])
    return [CurrentPolicy(policy, _since(last.get(policy.id))) for _, policy in sorted(policies.items())]


async def _last_steps(resident_id: UUID | None, policy_ids: list[UUID]) -> dict[UUID, Consent]:
    steps = await Consent.filter(resident_id=resident_id, policy_id__in=policy_ids).order_by("created_at", "id")
    return {step.policy_id: step for step in steps}


def _since(step: Consent | None) -> datetime | None:
    return step.created_at if step is not None and step.step is ConsentStep.GIVEN else None


async def require_consent(actor: Actor) -> None:
    """Refuse with ConsentNeeded while a current policy of the resident's company is not agreed to. A company that has
    published none asks for nothing."""
    needed = [one.policy for one in await list_current(actor) if one.consented_at is None]
    if needed:
        raise ConsentNeeded(
            titles="、".join(f"《{policy.title}》" for policy in needed),
            policies=[
                {"id": str(policy.id), "kind": policy.kind.value, "number": policy.number, "title": policy.title}
                for policy in needed
            ],
        )


@unit_of_work
async def give_consent(actor: Actor, policy_id: str) -> list[CurrentPolicy]:
    """Afterwards the resident agrees to this version; a second click adds nothing. Refuses NotFound,
    PolicyNotCurrent."""
    policy = await get_visible(Policy.visible_to(actor), policy_id)
    resident = await lock_account_tx(actor.id)
    await _give_tx(actor, resident, policy, ConsentChannel.APP)
    return await list_current(actor)


@unit_of_work
async def record_consent(actor: Actor, resident_id: UUID, policy_id: str) -> ConsentView:
    """Note a consent that the resident gave on paper at the counter. Refuses NotFound (resident, policy), NotPermitted,
    PolicyNotCurrent."""
    seen = await get_visible(Resident.visible_to(actor), resident_id)
    require_at_one(actor, Act.CONSENT_RECORD, await communities_of_resident(seen.id))
    policy = await get_visible(Policy.visible_to(actor), policy_id)
    resident = await get_visible(Resident.filter(closed_at__isnull=True).select_for_update(), seen.id)
    return ConsentView(await _give_tx(actor, resident, policy, ConsentChannel.COUNTER), policy)


async def communities_of_resident(resident_id: UUID) -> list[UUID]:
    """Where the resident has claimed or asks for a room."""
    lines = await Occupancy.filter(resident_id=resident_id)
    asked = await OccupancyRequest.filter(resident_id=resident_id)
    return sorted({one.community_id for one in lines} | {one.community_id for one in asked})


async def _give_tx(actor: Actor, resident: Resident, policy: Policy, channel: ConsentChannel) -> Consent:
    current = await current_policies(resident.organization_id)
    if current.get(policy.kind) is None or current[policy.kind].id != policy.id:
        raise PolicyNotCurrent()
    last = (await _last_steps(resident.id, [policy.id])).get(policy.id)
    if last is not None and last.step is ConsentStep.GIVEN:
        return last
    return await _add_tx(actor, resident, policy, ConsentStep.GIVEN, channel)


@unit_of_work
async def withdraw_consent(actor: Actor, kind: PolicyKind) -> list[CurrentPolicy]:
    """Take back every consent to policies of a kind, or say no to the current one that was never agreed to. What
    follows is in ``IF_WITHDRAWN``; what was done before stays lawful. A second click adds nothing. Refuses
    ConsentNotGiven where no policy of the kind is in force."""
    resident = await lock_account_tx(actor.id)
    policies = {policy.id: policy for policy in await Policy.visible_to(actor).filter(kind=kind)}
    last = await _last_steps(resident.id, list(policies))
    refused = [policies[policy_id] for policy_id, step in last.items() if step.step is ConsentStep.GIVEN]
    if not last:
        current = (await current_policies(resident.organization_id)).get(kind)
        if current is None:
            raise ConsentNotGiven()
        refused = [current]
    for policy in refused:
        await _add_tx(actor, resident, policy, ConsentStep.WITHDRAWN, ConsentChannel.APP)
    if refused and kind is PolicyKind.PRIVACY:
        await remove_phone_tx(actor, resident)
    return await list_current(actor)


async def _add_tx(
    actor: Actor, resident: Resident, policy: Policy, step: ConsentStep, channel: ConsentChannel
) -> Consent:
    consent = await Consent.create(
        organization_id=resident.organization_id,
        resident_id=resident.id,
        policy_id=policy.id,
        step=step,
        channel=channel,
        staff_id=actor.id if channel is ConsentChannel.COUNTER else None,
    )
    await audit.record_tx(
        actor, f"consent.{step.value}", "resident", resident.id, organization_id=resident.organization_id,
        after={"policy_id": str(policy.id), "kind": policy.kind.value, "channel": channel.value},
    )  # fmt: skip
    return consent


async def list_consents(actor: Actor, cursor: str | None, limit: int) -> Page[ConsentView]:
    """The resident's own steps, newest first."""
    page = await newest_first(Consent.visible_to(actor), cursor, limit)
    policies = {one.id: one for one in await Policy.filter(id__in={step.policy_id for step in page.items})}
    return Page([ConsentView(step, policies[step.policy_id]) for step in page.items], page.next_cursor)
