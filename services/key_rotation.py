"""Changing the keys of what lies encrypted, while everything runs; docs/privacy.md tells the order of the steps.

A value tells the id of its key, so old and new are read side by side, and what is left to do is seen in the rows
themselves: a run that was ended goes on where it stopped. Blind indexes go along with the values that they belong to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kit.crypto import Undecipherable, index_key_id_of, key_id_of
from kit.errors import NotPermitted
from kit.ids import NO_ID
from models import audit
from models.access import Actor, ActorKind
from models.secret import blind_index, blind_indexes, decrypt, encrypt, keyring
from models.secret_column import SECRET_COLUMNS, SecretColumn
from models.unit_of_work import row, rows, unit_of_work

_KEY_ID = r"substring({column} FROM '^v1\.(.+)\.[^.]*$')"
_INDEX_KEY_ID = "CASE WHEN strpos({index}, '.') = 0 THEN '' ELSE split_part({index}, '.', 1) END"
_PASSES = 5

Progress = Callable[[SecretColumn, int], None]


@dataclass(frozen=True)
class KeyCount:
    """How many values of a column are under a key; ``key_id`` None: not readable as ours at all. For a blind index the
    empty id is the key that has none."""

    column: str
    key_id: str | None
    count: int
    writes: bool


@dataclass(frozen=True)
class Rotated:
    """What a run did: values written anew by column, and the rows that no key opens."""

    changed: dict[str, int]
    unreadable: list[str]


async def key_counts() -> list[KeyCount]:
    """Every column of the register and every blind index, counted by key id."""
    keys, found = keyring(), []
    for one in SECRET_COLUMNS:
        for counted in await _counted(one, _KEY_ID.format(column=one.column)):
            key_id = counted["key_id"]
            found.append(KeyCount(str(one), key_id, counted["count"], key_id == keys.current))
        if one.index is not None:
            for counted in await _counted(one, _INDEX_KEY_ID.format(index=one.index)):
                key_id = counted["key_id"]
                found.append(
                    KeyCount(f"{one.table}.{one.index}", key_id, counted["count"], key_id == keys.index_key_id)
                )
    return found


async def _counted(one: SecretColumn, key_id: str) -> list[dict[str, Any]]:
    return await rows(
        f"SELECT {key_id} AS key_id, count(*) AS count FROM {one.table} WHERE {one.column} IS NOT NULL"  # noqa: S608 - the names are the register's
        " GROUP BY 1 ORDER BY 1"
    )


async def rotate(actor: Actor, progress: Progress) -> Rotated:
    """Write every value anew that is not under the keys that write, batch by batch; ``progress`` hears how many of a
    column are done. Values that others write meanwhile are left as they are, and looked at in another pass. For
    commands and jobs only (NotPermitted)."""
    if actor.kind is not ActorKind.SYSTEM:
        raise NotPermitted()
    changed: dict[str, int] = {}
    unreadable: list[str] = []
    for one in SECRET_COLUMNS:
        for _ in range(_PASSES):
            done, unreadable_here = await _pass(actor, one, lambda count, one=one: progress(one, count))  # type: ignore[misc]
            changed[str(one)] = changed.get(str(one), 0) + done
            if not done:
                break
        unreadable += unreadable_here
    return Rotated(changed, unreadable)


async def _pass(actor: Actor, one: SecretColumn, progress: Callable[[int], None]) -> tuple[int, list[str]]:
    after, done, unreadable = NO_ID, 0, []
    while found := await _left(one, after):
        after = found[-1]["key"]
        values = []
        for value in found:
            try:
                plaintext = decrypt(value["stored"], one.context)
            except Undecipherable:
                unreadable.append(f"{one} {value['key']}")
                continue
            index = blind_index(plaintext, one.context) if one.index else None
            values.append((value["key"], value["stored"], encrypt(plaintext, one.context), index))
        done += await _write(actor, one, values)
        progress(done)
    return done, unreadable


async def _left(one: SecretColumn, after: object) -> list[dict[str, Any]]:
    keys = keyring()
    left = f"{_KEY_ID.format(column=one.column)} IS DISTINCT FROM $2"
    values: list[Any] = [after, keys.current]
    if one.index is not None:
        left = f"({left} OR {_INDEX_KEY_ID.format(index=one.index)} IS DISTINCT FROM $3)"
        values.append(keys.index_key_id)
    return await rows(
        f"SELECT {one.key} AS key, {one.column} AS stored FROM {one.table}"  # noqa: S608 - the names are the register's
        f" WHERE {one.column} IS NOT NULL AND {one.key} > $1 AND {left} ORDER BY {one.key} LIMIT {one.batch}",
        *values,
    )


@unit_of_work
async def _write(actor: Actor, one: SecretColumn, values: Sequence[tuple[Any, str, str, str | None]]) -> int:
    """Put the new values in, each only where the old one still stands: what somebody wrote meanwhile is newer."""
    if not values:
        return 0
    index = f", {one.index} = made.index" if one.index is not None else ""
    written = await rows(
        f"UPDATE {one.table} SET {one.column} = made.stored{index}"  # noqa: S608 - the names are the register's
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS made (key, was, stored, index)"
        f" WHERE {one.table}.{one.key} = made.key AND {one.table}.{one.column} = made.was RETURNING made.key",
        *(list(column) for column in zip(*values, strict=True)),
    )
    await audit.record_tx(
        actor, "key.rotate", one.table, NO_ID, organization_id=None,
        after={"column": str(one), "key_id": keyring().current, "count": len(written)},
    )  # fmt: skip
    return len(written)


async def unfit_keys() -> str | None:
    """A sentence when the keys of this process do not fit what is in the database: a key id that it does not know, or a
    key that is another than the one which wrote. Of each column and key one value is tried."""
    there = {(found["table"], found["column"]) for found in await rows(_THERE)}
    for one in SECRET_COLUMNS:
        if (one.table, one.column) not in there:
            continue  # a migration is pending; readiness says so
        problem = await _unknown_key(one) or await _another_key(one)
        if problem:
            return problem
    return None


_THERE = """
SELECT table_name::text AS table, column_name::text AS column FROM information_schema.columns
WHERE table_schema = 'public'
"""


async def _unknown_key(one: SecretColumn) -> str | None:
    keys = keyring()
    known = [f"v1.{key_id}." for key_id in keys.keys]
    stranger = " ".join(f"AND NOT starts_with({one.column}, ${number})" for number in range(1, len(known) + 1))
    found = await row(
        f"SELECT {one.column} AS stored FROM {one.table} WHERE {one.column} IS NOT NULL {stranger} LIMIT 1",  # noqa: S608 - the names are the register's
        *known,
    )
    if found is not None:
        name = key_id_of(found["stored"]) or "?"
        return f"{one} has values of key “{name}”, which LINLI_FIELD_KEYS does not hold"
    if one.index is None:
        return None
    found = await row(
        f"SELECT {one.index} AS stored FROM {one.table} WHERE {one.column} IS NOT NULL"  # noqa: S608 - the names are the register's
        f" AND NOT ({_INDEX_KEY_ID.format(index=one.index)} = ANY($1::text[])) LIMIT 1",
        list(keys.index_key_ids),
    )
    if found is not None:
        name = index_key_id_of(found["stored"])
        return f"{one.table}.{one.index} has values of key “{name}”, which LINLI_INDEX_KEY does not hold"
    return None


async def _another_key(one: SecretColumn) -> str | None:
    wanted = f"{one.column} AS stored, {one.index or 'NULL'} AS index"
    for key_id in keyring().keys:
        found = await row(
            f"SELECT {wanted} FROM {one.table} WHERE starts_with({one.column}, $1) LIMIT 1",  # noqa: S608 - the names are the register's
            f"v1.{key_id}.",
        )
        if found is None:
            continue
        try:
            plaintext = decrypt(found["stored"], one.context)
        except Undecipherable:
            return f"{one} cannot be read: the key “{key_id}” of LINLI_FIELD_KEYS is another than the one that wrote"
        if one.index is not None and found["index"] not in blind_indexes(plaintext, one.context):
            name = index_key_id_of(found["index"])
            return f"{one.table}.{one.index}: the key “{name}” of LINLI_INDEX_KEY is another than the one that wrote"
    return None
