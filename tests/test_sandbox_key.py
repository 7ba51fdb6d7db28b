"""WeChat's keys in the sandbox: changing certificates, and merchants with one kind of key or with both."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509 import load_pem_x509_certificate

from sandbox.testing import APIV3_KEY, Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def rotate(shop: Desk, method: str = "POST", **body: str) -> list[dict[str, Any]]:
    answer = await shop.control(method, "/sandbox/rotation", body if method == "POST" else None)
    assert answer.status_code == 200, answer.text
    told: list[dict[str, Any]] = answer.json()["certificates"]
    shop.certificates.update({each["serial_no"]: each["certificate"] for each in told})
    return told


async def listed(shop: Desk) -> dict[str, str]:
    """serial → PEM as the merchant downloads them."""
    found = {}
    for each in (await shop.signed("GET", "/v3/certificates")).json()["data"]:
        sealed = each["encrypt_certificate"]
        raw = base64.b64decode(sealed["ciphertext"])
        pem = AESGCM(APIV3_KEY.encode()).decrypt(sealed["nonce"].encode(), raw, sealed["associated_data"].encode())
        assert load_pem_x509_certificate(pem).serial_number == int(each["serial_no"], 16)
        found[each["serial_no"]] = pem.decode()
    return found


async def answered_by(shop: Desk, serial: str = "") -> str:
    """The serial that signs an answer for a caller who asks for no, or for this, key."""
    answer = await shop.signed("GET", "/v3/certificates", headers={"Wechatpay-Serial": serial})
    assert shop.verifies(answer.headers, answer.content)
    return str(answer.headers["wechatpay-serial"])


async def called_back_by(shop: Desk) -> str:
    await shop.paid()
    delivery = (await shop.api.wait(len(shop.api.deliveries) or 1))[-1]
    assert shop.verifies(delivery.headers, delivery.body)
    return delivery.headers["wechatpay-serial"]


async def test_a_change_of_certificates(shop: Desk) -> None:
    [old] = await listed(shop)
    before = await rotate(shop, sign_with="old")
    assert [each["signs"] for each in before] == [True, False]
    new = before[1]["serial_no"]
    assert list(await listed(shop)) == [old, new]
    assert await answered_by(shop) == old
    # While it lasts there is no third one, and either may sign.
    assert [each["signs"] for each in await rotate(shop)] == [False, True]
    assert await answered_by(shop) == new
    await shop.control("POST", "/sandbox/faults", {"kind": "certificate_signed", "times": 1})
    assert await called_back_by(shop) == new
    assert [each["serial_no"] for each in await rotate(shop, "DELETE")] == [new]
    assert list(await listed(shop)) == [new]
    assert (await shop.client.get("/sandbox/rotation")).json()["certificates"][0]["signs"] is True
    assert (await shop.control("POST", "/sandbox/rotation", {"sign_with": "both"})).status_code == 422


async def test_a_merchant_with_only_the_public_key(shop: Desk) -> None:
    told = (await shop.register(keys="public_key")).json()
    assert (told["public_key_id"], told["certificates"]) == (shop.merchant.platform["public_key_id"], [])
    answer = await shop.signed("GET", "/v3/certificates")
    assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_EXISTS")
    # Answers are signed by it, asked for or not; callbacks too, whatever a fault says.
    answer = await shop.signed("POST", "/v3/pay/transactions/jsapi", shop.order(), headers={"Wechatpay-Serial": ""})
    assert answer.headers["wechatpay-serial"] == told["public_key_id"]
    assert shop.verifies(answer.headers, answer.content)
    await shop.control("POST", "/sandbox/faults", {"kind": "certificate_signed", "times": 1})
    assert await called_back_by(shop) == told["public_key_id"]


async def test_a_merchant_with_only_certificates(shop: Desk) -> None:
    told = (await shop.register(keys="certificate")).json()
    assert (told["public_key_id"], told["public_key"]) == (None, None)
    [serial] = await listed(shop)
    # A public key that is not switched on is as good as none.
    assert await answered_by(shop, shop.merchant.platform["public_key_id"]) == serial
    assert await called_back_by(shop) == serial


@pytest.mark.parametrize("share", [0, 20, 100])
async def test_a_share_of_the_callbacks_is_signed_by_the_public_key(shop: Desk, share: int) -> None:
    assert (await shop.register(public_key_share=share)).status_code == 200
    for _ in range(10):
        await shop.paid()
    serials = [each.headers["wechatpay-serial"] for each in await shop.api.wait(10)]
    assert all(shop.verifies(each.headers, each.body) for each in shop.api.deliveries)
    assert sum(serial.startswith("PUB_KEY_ID_") for serial in serials) == share // 10


async def test_registrations_that_do_not_fit(shop: Desk) -> None:
    unfits: list[dict[str, Any]] = [
        {"keys": "none"},
        {"public_key_share": 101},
        {"fee_rate": "0.6%"},
        {"sub_merchants": {"1900000109": "wx"}},
        {"sub_merchants": {"": []}},
        {"colour": "green"},
    ]
    for unfit in unfits:
        answer = await shop.register(**unfit)
        assert (answer.status_code, answer.json()["fields"]) == (422, list(unfit))
