"""WeChat's keys: both kinds at once, new ones learnt outside of the request, forged serials that cost nothing."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

import payments
from kit import clock
from kit.crypto import aes_gcm_encrypt
from kit.wechat_signature import serial_number
from models.access import Role
from models.audit import Audit
from models.merchant_account import MerchantAccount, WechatPayKey, WechatPayKeyKind
from models.payment import Payment, PaymentState
from payments import unknown_serial
from payments.gateways.base import OutcomeUnknown
from payments.gateways.wechat_certificate import read_certificates
from payments.gateways.wechat_pay import WechatPay
from payments.merchant import keys_of
from tests.conftest import Drain, SandboxControl
from tests.world import Company, Home, World

REFRESH = "refresh_wechat_pay_keys"
NewCertificate = Callable[[], Awaitable[str]]


def made_certificate(ends_in: timedelta = timedelta(days=365), bits: int = 2048) -> tuple[str, str, str]:
    """A platform certificate as WeChat might begin to use: serial, certificate and private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com sign")])
    number = secrets.randbits(158) | 1 << 158
    ends_at = datetime.now(UTC).replace(microsecond=0) + ends_in
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(ends_at - timedelta(days=400))
        .not_valid_after(ends_at)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return f"{number:040X}", certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


@pytest.fixture
def new_certificate(sandbox: SandboxControl) -> NewCertificate:
    """WeChat begins to sign with another certificate, and gives both out; its serial."""

    async def begin() -> str:
        answer = await sandbox.post("/sandbox/rotation", {"sign_with": "new"})
        (signing,) = [one["serial_no"] for one in answer.json()["certificates"] if one["signs"]]
        return str(signing)

    return begin


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of all calls to WeChat Pay."""
    made: list[str] = []
    send = WechatPay._send

    async def noted(self: WechatPay, method: str, target: str, body: bytes) -> httpx.Response:
        made.append(target)
        return await send(self, method, target, body)

    monkeypatch.setattr(WechatPay, "_send", noted)
    return made


@pytest.fixture(autouse=True)
def nobody_asked() -> Iterator[None]:
    unknown_serial._asked.clear()
    yield
    unknown_serial._asked.clear()


async def knows_no(kind: WechatPayKeyKind, company: Company, owner: asyncpg.Connection) -> None:
    """We know none of WeChat's keys of this kind."""
    await owner.execute("DELETE FROM wechat_pay_keys WHERE kind = $1", kind.value)
    await keys_of(company.merchant.id, fresh=True)


async def serials(home: Home) -> set[str]:
    return {key.serial for key in await WechatPayKey.filter(merchant_account_id=home.company.merchant.id)}


async def test_a_callback_by_a_new_certificate_is_refused_learnt_and_then_believed(
    world: World, sandbox: SandboxControl, drain: Drain, books, new_certificate: NewCertificate, calls: list[str], owner
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    serial = await new_certificate()
    await sandbox.fault("certificate_signed")
    told: list[str] = []
    await owner.add_listener("linli", lambda _line, _pid, _channel, what: told.append(what))
    calls.clear()

    paid = (await sandbox.pay(opened)).json()
    first = await sandbox.called_back(paid["out_trade_no"])
    assert [one["status"] for one in first["attempts"]] == [401]
    assert calls == []  # not inside the request
    assert await drain() == [REFRESH]
    assert calls == ["/v3/certificates"]
    await owner.execute("SELECT 1")
    assert told == [f"merchant_keys {home.company.merchant.id}"]  # the other processes know it now
    await sandbox.post(f"/sandbox/callbacks/{first['id']}/resend", {})

    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID
    key = await WechatPayKey.get(serial=serial)
    assert key.kind is WechatPayKeyKind.CERTIFICATE and key.expires_at is not None and key.effective_at is not None
    assert len(await serials(home)) == 3  # both certificates and the public key
    audit = await Audit.get(target_id=home.company.merchant.id, act="merchant_account.add_wechat_pay_key")
    assert (audit.actor, audit.after) == ("system:refresh_wechat_pay_keys", {"serials": [serial]})


async def test_an_answer_by_an_unknown_certificate_has_the_certificates_asked_for(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    """A merchant of whom we know nothing yet that signs: the first download is verified against itself."""
    home = await world.home()
    await knows_no(WechatPayKeyKind.PUBLIC_KEY, home.company, owner)
    await knows_no(WechatPayKeyKind.CERTIFICATE, home.company, owner)

    unbelieved = await home.open()
    assert (unbelieved.status_code, unbelieved.json()["code"]) == (503, "wechat_unavailable")
    assert await drain() == [REFRESH]

    assert (await home.open()).status_code == 201
    assert len(await serials(home)) == 1


async def test_later_downloads_are_believed_from_a_known_key_alone(
    world: World, sandbox: SandboxControl, owner, new_certificate: NewCertificate
) -> None:
    """The answer is signed by a certificate that only the answer itself vouches for."""
    home = await world.home()
    await knows_no(WechatPayKeyKind.PUBLIC_KEY, home.company, owner)
    before = await serials(home)
    await new_certificate()

    assert await payments.refresh_wechat_pay_keys(home.company.merchant.id) == 0

    assert await serials(home) == before
    account = await MerchantAccount.get(id=home.company.merchant.id)
    assert account.keys_check_at is not None and account.keys_check_at - clock.now() < timedelta(hours=1)


async def test_a_download_whose_signature_does_not_hold_changes_nothing(
    world: World, sandbox: SandboxControl, new_certificate: NewCertificate
) -> None:
    home = await world.home()
    before = await serials(home)
    await new_certificate()
    await sandbox.fault("bad_signature", operation="certificates")

    assert await payments.refresh_wechat_pay_keys(home.company.merchant.id) == 0
    assert await serials(home) == before


async def test_a_flood_of_forged_serials_is_one_question_a_minute(
    world: World, sandbox: SandboxControl, drain: Drain, calls: list[str]
) -> None:
    home = await world.home()
    await home.open()
    calls.clear()
    path = f"/callbacks/wechat/pay/{home.company.merchant.id}"
    took: list[float] = []

    async def forge() -> int:
        headers = forged_headers(secrets.token_hex(20).upper())
        begun = time.monotonic()
        answer = await world.api.post(path, content=b'{"id":"x"}', headers=headers)
        took.append(time.monotonic() - begun)
        return answer.status_code

    statuses = [status for _ in range(25) for status in await asyncio.gather(*(forge() for _ in range(8)))]

    assert statuses == [401] * 200
    assert await drain() == [REFRESH] and calls == ["/v3/certificates"]
    assert sorted(took)[197] < 2, f"p99 {sorted(took)[197]:.3f} s"  # tens of milliseconds, if nothing else runs
    await forge()
    assert await drain() == [] and len(calls) == 1
    with clock.travel_to(clock.now() + timedelta(seconds=61)):
        await forge()
        assert await drain() == [REFRESH] and len(calls) == 2


async def test_of_many_processes_one_asks(world: World, sandbox: SandboxControl, calls: list[str]) -> None:
    """Each has its own memory of whom it asked for; the database lets one of them through."""
    home = await world.home()

    added = await asyncio.gather(*(payments.refresh_wechat_pay_keys(home.company.merchant.id) for _ in range(12)))

    assert calls == ["/v3/certificates"] and added == [0] * 12


GARBAGE = [
    "",
    "0",
    "zz",
    "0x1F",
    "-1",
    "+1",
    "1_0",
    "½",
    "PUB_KEY_ID_0",
    "A" * 39,
    "A" * 41,
    "G" * 40,
    "9" * 4000,
    "\x7f",
]


async def test_garbage_for_a_serial_is_401_and_asks_nobody(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    company = await world.company()
    for serial in GARBAGE:
        headers = {name: value.encode() for name, value in forged_headers(serial).items()}

        answer = await world.api.post(f"/callbacks/wechat/pay/{company.merchant.id}", content=b"{}", headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (401, "notification_unverified"), serial
    assert await drain() == []


@pytest.mark.parametrize(("status", "code"), [(404, "RESOURCE_NOT_EXISTS"), (500, "SYSTEM_ERROR")])
async def test_a_merchant_with_a_public_key_alone_is_left_in_peace(
    world: World, sandbox: SandboxControl, drain: Drain, owner, calls: list[str], status: int, code: str
) -> None:
    company = await world.company()
    await knows_no(WechatPayKeyKind.CERTIFICATE, company, owner)
    await sandbox.fault("error", operation="certificates", status=status, code=code)
    await MerchantAccount.filter(id=company.merchant.id).update(keys_check_at=clock.now())

    assert await payments.sweep_wechat_pay_keys() == 1
    assert calls == ["/v3/certificates"]

    assert (await MerchantAccount.get(id=company.merchant.id)).keys_check_at is None
    with clock.travel_to(clock.now() + timedelta(hours=10)):
        assert await payments.sweep_wechat_pay_keys() == 0
        await unknown_serial.note_unknown_serial(company.merchant.id, "A" * 40)
        assert await drain() == [REFRESH]
    assert calls == ["/v3/certificates"]  # a forged serial does not make us ask again either


async def test_certificates_are_asked_for_twice_a_day(
    world: World, sandbox: SandboxControl, calls: list[str], new_certificate: NewCertificate
) -> None:
    home = await world.home()
    await MerchantAccount.filter(id=home.company.merchant.id).update(keys_check_at=clock.now())
    assert await payments.sweep_wechat_pay_keys() == 1
    assert await payments.sweep_wechat_pay_keys() == 0
    serial = await new_certificate()
    calls.clear()

    with clock.travel_to(clock.now() + timedelta(hours=10, minutes=55)):
        assert await payments.sweep_wechat_pay_keys() == 0
    with clock.travel_to(clock.now() + timedelta(hours=11)):
        assert await payments.sweep_wechat_pay_keys() == 1

    assert calls == ["/v3/certificates"] and serial in await serials(home)


async def test_while_wechat_is_away_it_is_asked_again_in_an_hour(world: World, sandbox: SandboxControl) -> None:
    company = await world.company()
    await MerchantAccount.filter(id=company.merchant.id).update(keys_check_at=clock.now())
    await sandbox.fault("error", operation="certificates", status=503, code="SERVICE_UNAVAILABLE", times=1)

    assert await payments.sweep_wechat_pay_keys() == 1
    assert await payments.sweep_wechat_pay_keys() == 0
    with clock.travel_to(clock.now() + timedelta(hours=1)):
        assert await payments.sweep_wechat_pay_keys() == 1
        checked = await MerchantAccount.get(id=company.merchant.id)
        assert checked.keys_check_at is not None and checked.keys_check_at - clock.now() > timedelta(hours=10)


async def test_a_certificate_is_believed_until_it_expires(world: World, sandbox: SandboxControl) -> None:
    company = await world.company()
    serial, certificate, _ = made_certificate(ends_in=timedelta(minutes=5))
    await WechatPayKey.create(
        merchant_account_id=company.merchant.id, serial=serial, kind=WechatPayKeyKind.CERTIFICATE,
        public_key_pem=certificate, effective_at=clock.now() - timedelta(days=1),
        expires_at=clock.now() + timedelta(minutes=5),
    )  # fmt: skip

    before = await keys_of(company.merchant.id, fresh=True)
    with clock.travel_to(clock.now() + timedelta(minutes=6)):
        after = await keys_of(company.merchant.id, fresh=True)
    await keys_of(company.merchant.id, fresh=True)

    assert before is not None and after is not None
    assert (serial in before.wechat_keys, serial in after.wechat_keys) == (True, False)
    assert len(after.wechat_keys) == 2


async def test_a_certificate_registered_by_hand_brings_its_dates(world: World, sandbox: SandboxControl) -> None:
    company = await world.company()
    manager = await world.staff(company, Role.MANAGER)
    serial, certificate, _ = made_certificate()

    added = await manager.post(
        f"/api/v1/staff/merchant-accounts/{company.merchant.id}/wechat-pay-keys",
        {"serial": serial.lower(), "kind": "certificate", "pem": certificate},
    )

    assert added.status_code == 201, added.text
    key = await WechatPayKey.get(id=added.json()["id"])
    assert key.serial == serial and key.expires_at is not None and key.effective_at is not None
    assert timedelta(days=364) < key.expires_at - clock.now() < timedelta(days=366)
    for wrong in ("0x" + serial[:38], "1_" + serial[:38], "PUB_KEY_ID_1"):
        refused = await manager.post(
            f"/api/v1/staff/merchant-accounts/{company.merchant.id}/wechat-pay-keys",
            {"serial": wrong, "kind": "certificate", "pem": certificate},
        )
        assert (refused.status_code, refused.json()["code"]) == (422, "wechat_pay_key_not_valid")


class TestTheDownload:
    key = b"0123456789abcdefghijklmnopqrstuv"

    def body(self, serial: str, pem: str, *, key: bytes = b"", blank: str = "", **changes: Any) -> bytes:
        import json

        sealed = aes_gcm_encrypt(key or self.key, b"0123456789ab", pem.encode(), b"certificate")
        item = {
            f"serial_no{blank}": serial,
            f"effective_time{blank}": "2026-01-01T00:00:00+08:00",
            f"expire_time{blank}": "2031-01-01T00:00:00+08:00",
            "encrypt_certificate": {
                "algorithm": "AEAD_AES_256_GCM",
                f"nonce{blank}": "0123456789ab",
                "associated_data": "certificate",
                "ciphertext": sealed,
            },
        }
        return json.dumps({"data": [item | changes]}).encode()

    def test_names_may_end_in_a_blank(self) -> None:
        serial, pem, _ = made_certificate()
        for blank in ("", " "):
            (found,) = read_certificates(self.key, self.body(serial, pem, blank=blank), clock.now())
            assert (found.serial, found.pem) == (serial, pem)
            assert found.effective_at < clock.now() < found.expires_at

    def test_an_expired_one_is_left_out(self) -> None:
        serial, pem, _ = made_certificate(ends_in=timedelta(days=-1))
        assert read_certificates(self.key, self.body(serial, pem), clock.now()) == []

    def test_what_does_not_fit_is_no_answer(self) -> None:
        serial, pem, _ = made_certificate()
        _, short, _ = made_certificate(bits=1024)
        bad = [
            b"", b"[]", b"{}", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{}]}', b'{"data": null}',
            self.body("F" * 40, pem),
            self.body("not hex", pem),
            self.body(serial, pem, key=b"another key of thirty-two bytes!"),
            self.body(serial, "not a certificate"),
            self.body(serial, short),
            self.body(serial, pem, encrypt_certificate="text"),
        ]  # fmt: skip
        for body in bad:
            with pytest.raises(OutcomeUnknown, match="CERTIFICATES_UNREADABLE"):
                read_certificates(self.key, body, clock.now())


@pytest.mark.parametrize(
    ("text", "number"),
    [("1F", 31), ("1f", 31), ("0", 0), ("", None), ("0x1F", None), ("1_0", None), ("-1", None), (" 1", None),
     ("½", None), ("٣", None), ("PUB_KEY_ID_1", None), ("G", None)],
)  # fmt: skip
def test_a_serial_is_hexadecimal_digits_and_nothing_else(text: str, number: int | None) -> None:
    assert serial_number(text) == number


def forged_headers(serial: str) -> dict[str, str]:
    return {
        "Wechatpay-Timestamp": str(clock.unix_s()),
        "Wechatpay-Nonce": secrets.token_hex(16),
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature": "A" * 344,
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        "Content-Type": "application/json",
    }
