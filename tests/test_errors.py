"""Refusals: every "no" is a fact with a code of its own, said in two languages."""

import re
import string

import pytest

import server.app  # noqa: F401 - importing the whole program registers its refusals
from kit.errors import NotFound, Refusal, all_refusals, code_of

REFUSALS = all_refusals()
_BY_DESIGN = {400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 422, 423, 425, 428, 429, 500, 502, 503, 504}


def subclasses(of: type[Refusal]) -> set[type[Refusal]]:
    return {one for direct in of.__subclasses__() for one in {direct, *subclasses(direct)}}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_whole(code: str) -> None:
    refusal = REFUSALS[code]
    assert refusal.code == code == code_of(refusal.__name__)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", code)
    assert refusal.status in _BY_DESIGN
    assert re.search(r"[\u4e00-\u9fff]", refusal.zh) and refusal.zh[-1] in "。！？”）}"
    assert refusal.en.isascii() or not re.search(r"[\u4e00-\u9fff]", refusal.en)
    assert refusal.en[0].isupper() or refusal.en[0] == "{"
    assert refusal.en[-1] in ".!?}"


@pytest.mark.parametrize("code", REFUSALS)
def test_its_sentences_render_with_and_without_their_facts(code: str) -> None:
    refusal = REFUSALS[code]
    named = {
        name for text in (refusal.zh, refusal.en) for _, name, *_ in string.Formatter().parse(text) if name is not None
    }
    assert all(re.fullmatch(r"[a-z_]+", name) for name in named)
    bare = refusal.__new__(refusal)
    Refusal.__init__(bare)
    full = refusal.__new__(refusal)
    Refusal.__init__(full, **{name: f"<{name}>" for name in named})
    for language, text in (("zh", refusal.zh), ("en", refusal.en)):
        assert "{" not in bare.sentence(language) and "{" not in full.sentence(language)
        for name in named:
            if f"{{{name}}}" in text:
                assert f"<{name}>" in full.sentence(language)
    assert bare.sentence("zh") != bare.sentence("en")


def test_every_class_has_a_code_of_its_own() -> None:
    known = [one for one in subclasses(Refusal) if not one.__module__.startswith("tests")]
    assert len({one.code for one in known}) == len(known) == len(REFUSALS)


def test_a_code_cannot_be_taken_twice() -> None:
    with pytest.raises(TypeError, match="two refusals share the code not_found"):
        type("NotFound", (Refusal,), {"zh": "没有。", "en": "No.", "__module__": "elsewhere"})
    assert all_refusals()["not_found"] is NotFound


@pytest.mark.parametrize("said", [{}, {"zh": "没有。"}, {"en": "No."}])
def test_a_refusal_says_itself_in_both_languages(said: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="in Chinese and in English"):
        type("SaysTooLittle", (Refusal,), said)
    assert "says_too_little" not in all_refusals()


@pytest.mark.parametrize(
    ("name", "code"),
    [("BillAlreadyPaid", "bill_already_paid"), ("NotFound", "not_found"), ("Http2Off", "http2_off"), ("Gone", "gone")],
)
def test_codes(name: str, code: str) -> None:
    assert code_of(name) == code


def test_facts_and_retry() -> None:
    refusal = NotFound(retry_after_s=3, bill="B1")
    assert (refusal.facts, refusal.retry_after_s, str(refusal)) == ({"bill": "B1"}, 3, "not_found")
    assert NotFound().retry_after_s is None and NotFound.retry_after_s is None
    assert refusal.sentence("fr") == refusal.sentence("zh")
