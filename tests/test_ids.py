"""Ids, codes and tokens."""

import itertools
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.ids import NO_ID, new_code, new_id, new_token, parse_id


def test_version_variant_and_time_of_an_id() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(2000)]
    after = time.time_ns() // 1_000_000
    for one in made:
        assert (one.version, one.variant) == (7, uuid.RFC_4122)
        assert before <= one.int >> 80 <= after
    assert len(set(made)) == len(made)
    # No bit of the random ones is stuck.
    ones, zeros = made[0].int, ~made[0].int
    for one in made:
        ones, zeros = ones | one.int, zeros | ~one.int
    random_bits = (((1 << 12) - 1) << 64) | ((1 << 62) - 1)
    assert ones & random_bits == zeros & random_bits == random_bits


def test_ids_are_in_the_order_of_time() -> None:
    made = []
    for _ in range(5):
        made.append(new_id())
        time.sleep(0.002)
    assert made == sorted(made) and [str(one) for one in made] == sorted(str(one) for one in made)


GOOD = "0198b2c4-7e1f-7a3b-8c4d-5e6f70819203"


@pytest.mark.parametrize(
    "text",
    [
        None, 7, 7.5, b"", [], {}, object(), GOOD.encode(), "", " ", GOOD.upper(), f"{{{GOOD}}}", f"urn:uuid:{GOOD}",
        GOOD.replace("-", ""), f" {GOOD}", f"{GOOD} ", f"{GOOD}\n", GOOD[:-1], GOOD + "0", GOOD.replace("a", "g"),
        GOOD.replace("0", "٠"), "../" + GOOD, GOOD.replace("-", "_"), "0198b2c47-e1f-7a3b-8c4d-5e6f70819203",
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_no_id(text: Any) -> None:
    assert parse_id(text) is None


def test_an_id_in_its_canonical_form() -> None:
    assert parse_id(GOOD) == uuid.UUID(GOOD)
    assert parse_id(uuid.UUID(GOOD)) == uuid.UUID(GOOD)
    assert parse_id(str(NO_ID)) == NO_ID != new_id()


@given(st.uuids())
def test_any_id_reads_back(one: uuid.UUID) -> None:
    assert parse_id(str(one)) == one


@given(st.text(max_size=40))
def test_parse_never_raises(text: str) -> None:
    found = parse_id(text)
    assert found is None or str(found) == text


def test_codes_cannot_be_misread() -> None:
    code = new_code(4000)
    assert len(code) == 4000 and set(code) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert new_code(0) == "" and new_code(12) != new_code(12)


def test_tokens_have_256_bits_and_no_strange_letters() -> None:
    made = {new_token() for _ in range(200)}
    assert len(made) == 200
    assert all(len(token) == 43 and token.replace("-", "a").replace("_", "a").isalnum() for token in made)
