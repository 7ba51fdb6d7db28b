"""隐私政策 and 服务协议: published version by version by the property company."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from kit import clock
from kit.errors import InvalidInput, Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.policy import Policy, PolicyKind
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.unique import unique


class PolicyNumberTaken(Refusal):
    """Published versions stay as they are; a change is a new one."""

    zh = "这个版本号已经发布过，请使用新的版本号。"
    en = "A version of this number has been published already; give the new one another number."


class PolicyWordless(InvalidInput):
    """Neither a text nor a link: nobody could read what they agree to."""

    zh = "请填写正文或链接。"
    en = "Give the text, or a link to it."


@dataclass(frozen=True)
class NewPolicy:
    """A version to publish; it counts from the day ``effective_on``, and then everybody is asked anew."""

    kind: PolicyKind
    number: str
    title: str
    effective_on: date
    text: str | None = None
    link: str | None = None


@unit_of_work
async def publish_policy(actor: Actor, new: NewPolicy) -> Policy:
    """Publish a version, for good. Organization-wide managers only. Refuses NotPermitted, PolicyWordless,
    PolicyNumberTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    if not new.text and not new.link:
        raise PolicyWordless(fields=[{"field": "text", "code": "missing"}])
    with unique(policies_number=PolicyNumberTaken):
        policy = await Policy.create(
            organization_id=actor.organization_id,
            kind=new.kind,
            number=normalise(new.number),
            title=normalise(new.title),
            text=new.text or None,
            link=new.link or None,
            effective_on=new.effective_on,
            published_by_staff_id=actor.id,
        )
    await audit.record_tx(
        actor, "policy.publish", "policy", policy.id, organization_id=policy.organization_id,
        after={"kind": policy.kind.value, "number": policy.number, "effective_on": policy.effective_on.isoformat()},
    )  # fmt: skip
    return policy


async def list_policies(actor: Actor, cursor: str | None, limit: int) -> Page[Policy]:
    """Every version of the company, newest first; for any member of staff with a role."""
    require_somewhere(actor, Act.COMMUNITY_READ)
    return await newest_first(Policy.visible_to(actor), cursor, limit)


async def get_policy(actor: Actor, policy_id: UUID) -> Policy:
    """One version of the company; NotFound otherwise."""
    require_somewhere(actor, Act.COMMUNITY_READ)
    return await get_visible(Policy.visible_to(actor), policy_id)


async def current_policies(organization_id: UUID | None) -> dict[PolicyKind, Policy]:
    """The version of each kind that counts today; a kind of which none was published is missing."""
    published = Policy.filter(organization_id=organization_id, effective_on__lte=clock.today())
    return {policy.kind: policy for policy in await published.order_by("effective_on", "created_at", "id")}
