"""Production unless told otherwise; in production nothing of the laptop is let in."""

import base64
import json
import stat

import pytest
from pydantic import ValidationError

from server.settings import Settings


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name in ("LINLI_ENV", "DATABASE_URL", "LINLI_STATE", "LINLI_PUBLIC_BASE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings()  # type: ignore[call-arg]


def test_it_is_production_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch)

    assert found.dev is False
    assert found.pay_base() == "https://api.mch.weixin.qq.com"
    assert found.api_base() == "https://api.weixin.qq.com"
    for ask in (found.require_database_url, found.callback_base, found.keyring):
        with pytest.raises(ValueError, match=r"not set"):
            ask()


@pytest.mark.parametrize("name", ["LINLI_WECHAT_PAY_BASE", "LINLI_WECHAT_API_BASE"])
def test_production_cannot_be_pointed_at_a_sandbox(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(ValidationError, match="LINLI_ENV=dev only"):
        settings(monkeypatch, **{name: "http://127.0.0.1:8100"})


def test_production_cannot_be_told_to_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="LINLI_CRASH_AT is for LINLI_ENV=dev only"):
        settings(monkeypatch, LINLI_CRASH_AT="payments.settle.settle_tx.after_commit")


def test_the_laptop_makes_its_own_keys_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    found = settings(monkeypatch, LINLI_ENV="dev", LINLI_STATE=str(tmp_path / "state"))

    first, again = found.keyring(), found.keyring()

    assert first.keys == again.keys and first.index_key == again.index_key
    kept = tmp_path / "state" / "keys.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert again.decrypt(first.encrypt("13800001234", "phone"), "phone") == "13800001234"


def test_production_keys_come_from_outside_and_the_last_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {name: base64.b64encode(name.encode() * 16).decode() for name in ("k1", "k2")}
    found = settings(
        monkeypatch,
        LINLI_FIELD_KEYS=json.dumps(keys),
        LINLI_INDEX_KEY=base64.b64encode(b"i" * 32).decode(),
    )

    assert found.keyring().encrypt("x", "c").startswith("v1.k2.")
    assert "k1k1" not in repr(found) and "k1k1" not in repr(found.keyring())


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, DATABASE_URL="postgresql://linli:hunter2@db/linli")

    assert "hunter2" not in repr(found) and "hunter2" not in str(found)
    assert found.require_database_url() == "postgresql://linli:hunter2@db/linli"


def test_an_index_key_may_be_one_or_several_of_which_the_last_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = json.dumps({"k1": base64.b64encode(b"k" * 32).decode()})
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"i", b"j"))

    one = settings(monkeypatch, LINLI_FIELD_KEYS=keys, LINLI_INDEX_KEY=old).keyring()
    both = settings(monkeypatch, LINLI_FIELD_KEYS=keys, LINLI_INDEX_KEY=json.dumps({"": old, "i2": new})).keyring()

    assert one.index_key_ids == ("",) and both.index_key_ids == ("", "i2")
    assert both.blind_indexes("x", "c")[0] == one.blind_index("x", "c")
    assert both.blind_index("x", "c").startswith("i2.")


@pytest.mark.parametrize("bad", ["{", "[]", "{}", '{"k1": 5}', '{"k1": "not base64!"}', '{"k1": "c2VjcmV0LXNob3J0"}'])
def test_keys_that_are_none_are_refused_without_being_told(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    index = base64.b64encode(b"i" * 32).decode()
    found = settings(monkeypatch, LINLI_FIELD_KEYS=bad, LINLI_INDEX_KEY=index)

    with pytest.raises(ValueError) as refused:
        found.keyring()
    assert "c2VjcmV0" not in str(refused.value) and "not base64" not in str(refused.value)
