"""Text for people: masks, phones, natural order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.text import mask_in_text, mask_name, mask_phone, natural_key, normalise, normalise_phone


@pytest.mark.parametrize(
    ("phone", "masked"),
    [("13800001234", "138****1234"), ("12345678", "123****5678"), ("1234567", "****"), ("", "****"), ("138", "****")],
)
def test_mask_phone(phone: str, masked: str) -> None:
    assert mask_phone(phone) == masked


@pytest.mark.parametrize(("name", "masked"), [("王建国", "王**"), ("王", "王*"), ("", ""), ("欧阳", "欧*")])
def test_mask_name(name: str, masked: str) -> None:
    assert mask_name(name) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call 13800001234!", "call 138****1234!"),
        ("13800001234,13900005678", "138****1234,139****5678"),
        ("手机13800001234号", "手机138****1234号"),
        ("order 213800001234", "order 213800001234"),  # a longer run of digits is a number of another kind
        ("138000012345", "138000012345"),
        ("o" + "A" * 27, "o***"),
        ("openid=oUpF8uMuAJO_M2pxb1Q9zNjWeS6o ok", "openid=o*** ok"),
        ("only", "only"),
    ],
)
def test_mask_in_text(text: str, masked: str) -> None:
    assert mask_in_text(text) == masked


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("13800001234", "13800001234"), ("+86 138-0000-1234", "13800001234"), ("86 13800001234", "13800001234"),
        ("１３８００００１２３４", "13800001234"), (" 138 0000 1234 ", "13800001234"), ("(138)00001234", "13800001234"),
        ("12800001234", None), ("1380000123", None), ("138000012345", None), ("", None), ("abc", None),
        ("+852 61234567", None), ("0571-88888888", None), ("138٠٠٠٠1234", None), ("13800001234x", None),
    ],
)  # fmt: skip
def test_normalise_phone(text: str, phone: str | None) -> None:
    assert normalise_phone(text) == phone


@pytest.mark.parametrize(
    ("text", "plain"), [("３栋 １单元", "3栋 1单元"), ("  a \t\n b\u3000c ", "a b c"), ("", ""), ("①", "1")]
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


@given(st.text(max_size=40))
def test_normalise_is_done_after_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_rooms_sort_as_people_count() -> None:
    rooms = [
        "3栋1单元101",
        "3栋1单元1201",
        "3栋2单元101",
        "10栋1单元101",
        "10栋1单元102",
        "A区2栋1单元1",
        "A区11栋1单元1",
    ]
    for shuffled in (rooms, rooms[::-1], rooms[3:] + rooms[:3]):
        assert sorted(shuffled, key=natural_key) == rooms
    assert natural_key("３栋") == natural_key("3栋") == "00000003栋"


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**8 - 1))
def test_numbers_in_names_sort_as_numbers(one: int, other: int) -> None:
    assert (natural_key(f"{one}栋") < natural_key(f"{other}栋")) == (one < other)
