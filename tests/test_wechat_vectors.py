"""Every published vector of WeChat Pay's cryptography, reproduced by the code that speaks with WeChat."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from kit import clock
from kit.crypto import (
    Undecipherable,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    load_private_key,
    load_public_key,
    rsa_sign,
    rsa_verifies,
)
from kit.wechat_signature import (
    WINDOW_S,
    Authorization,
    is_fresh,
    parse_authorization,
    pay_sign_message,
    request_message,
    response_message,
)
from models.merchant_account import MerchantMode
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_pay import decrypt_resource

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "wechat_vectors.json").read_text())
MERCHANT = VECTORS["keys"]["official_doc_merchant"]
KEY = load_private_key(MERCHANT["private_key_pem"])
SIGNED = {vector["name"]: vector for vector in VECTORS["signatures"]["vectors"]}
REQUESTS = [vector for vector in SIGNED.values() if "authorization" in vector]


def public_pem(private_pem: str) -> str:
    public = load_private_key(private_pem).public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, spki).decode()


def lowered(headers: dict[str, str]) -> dict[str, str]:
    """As both Sanic and httpx hand them over."""
    return {name.lower(): value for name, value in headers.items()}


def keys(serial: str, public_key_pem: str, apiv3_key: str = "0" * 32) -> MerchantKeys:
    return MerchantKeys(
        mode=MerchantMode.DIRECT,
        mchid="1900000001",
        sub_mchid=None,
        serial_no=MERCHANT["serial_no"],
        private_key=KEY,
        apiv3_key=apiv3_key.encode(),
        wechat_keys={serial: load_public_key(public_key_pem)},
    )


def test_no_vector_is_left_out() -> None:
    assert set(SIGNED) == {
        "request_sign_POST_body", "request_sign_GET_path", "paySign_jsapi_miniprogram", "sign_app_pay",
    }  # fmt: skip
    assert [len(VECTORS[name]) for name in ("signatures_other", "authorization_layout", "response_verify")] == [2, 3, 1]
    assert [len(VECTORS[name]) for name in ("notifications", "aes_gcm")] == [1, 4]


@pytest.mark.parametrize("vector", REQUESTS, ids=lambda vector: vector["name"])
def test_a_request_is_signed_as_documented_to_the_letter_of_its_header(vector: dict[str, Any]) -> None:
    method, target, timestamp, nonce, body = vector["message"].removesuffix("\n").split("\n")
    message = request_message(method, target, timestamp, nonce, body.encode())
    assert message == vector["message"].encode()
    signature = rsa_sign(KEY, message)
    assert signature == vector["signature"]
    authorization = Authorization(MERCHANT["mchid"], MERCHANT["serial_no"], nonce, timestamp, signature)
    assert authorization.header() == vector["authorization"]
    assert parse_authorization(vector["authorization"]) == authorization


def test_pay_sign_of_the_mini_program() -> None:
    vector = SIGNED["paySign_jsapi_miniprogram"]
    appid, timestamp, nonce, package = vector["message"].removesuffix("\n").split("\n")
    message = pay_sign_message(appid, timestamp, nonce, package)
    assert message == vector["message"].encode() and package.startswith("prepay_id=wx")
    assert rsa_sign(KEY, message) == vector["signature"]


def test_the_sign_of_the_app_is_of_the_bare_prepay_id() -> None:
    vector = SIGNED["sign_app_pay"]
    message = pay_sign_message(*vector["message"].removesuffix("\n").split("\n"))
    assert message == vector["message"].encode() and b"prepay_id=" not in message
    assert rsa_sign(KEY, message) == vector["signature"] != SIGNED["paySign_jsapi_miniprogram"]["signature"]


def test_the_go_suite_s_signature() -> None:
    vector = VECTORS["signatures_other"][0]
    private_pem = VECTORS["keys"]["go_sdk"]["private_key_pem"]
    assert rsa_sign(load_private_key(private_pem), vector["message"].encode()) == vector["signature"]
    certificate = VECTORS["keys"]["go_sdk"]["certificates"][0]["pem"]
    assert rsa_verifies(load_public_key(certificate), vector["message"].encode(), vector["signature"])


def test_the_java_suite_s_signature_is_the_merchant_s_and_not_wechat_s() -> None:
    vector, java = VECTORS["signatures_other"][1], VECTORS["keys"]["java_sdk"]
    message, signature = vector["message"].encode(), vector["signature"]
    assert rsa_verifies(load_public_key(java["merchant_certificate_pem"]), message, signature)
    assert not rsa_verifies(load_public_key(java["wechatpay_public_key_pem"]), message, signature)
    # The platform certificate has expired, its key is the public key's all the same.
    assert (
        load_public_key(java["wechatpay_certificate_pem"]).public_numbers()
        == load_public_key(java["wechatpay_public_key_pem"]).public_numbers()
    )


@pytest.mark.parametrize("layout", VECTORS["authorization_layout"], ids=lambda layout: layout["message"][:20])
def test_the_layout_of_a_signed_request(layout: dict[str, Any]) -> None:
    made = request_message(
        layout["method"], layout["url"], str(layout["timestamp"]), layout["nonce"], layout["body"].encode()
    )
    assert made == layout["message"].encode()


def in_order(authorization: Authorization, names: str) -> str:
    pairs = ",".join(f'{name}="{getattr(authorization, name)}"' for name in names.split())
    return f"WECHATPAY2-SHA256-RSA2048 {pairs}"


ORDERS = [
    "mchid serial_no timestamp nonce_str signature",  # PHP
    "mchid nonce_str timestamp serial_no signature",  # Java, Go
    "mchid nonce_str signature timestamp serial_no",  # Python
]


def test_the_pairs_of_a_header_are_read_in_the_order_of_every_sdk() -> None:
    pattern = re.compile(VECTORS["authorization_regex"])
    for vector in REQUESTS:
        authorization = parse_authorization(vector["authorization"])
        assert authorization is not None
        assert pattern.fullmatch(in_order(authorization, ORDERS[0]))
        assert [parse_authorization(in_order(authorization, order)) for order in ORDERS] == [authorization] * 3


@pytest.mark.parametrize(
    "header",
    [
        "", " ", "WECHATPAY2-SHA256-RSA2048", "WECHATPAY2-SHA256-RSA2048 ",
        'WECHATPAY2-SM2-WITH-SM3 mchid="1",serial_no="2",timestamp="3",nonce_str="4",signature="5"',
        'WECHATPAY2-SHA256-RSA2048 mchid="1",serial_no="2",timestamp="3",nonce_str="4"',
        'WECHATPAY2-SHA256-RSA2048 mchid="1",serial_no="2",timestamp="3",nonce_str="4",signature="5",more="6"',
        'WECHATPAY2-SHA256-RSA2048 mchid="1",serial_no="2",timestamp="3",nonce_str="4",signature=5',
        'WECHATPAY2-SHA256-RSA2048 mchid="1" serial_no="2" timestamp="3" nonce_str="4" signature="5"',
    ],
)  # fmt: skip
def test_another_header_is_none_of_ours(header: str) -> None:
    assert parse_authorization(header) is None


def test_the_documented_answer_verifies() -> None:
    vector = VECTORS["response_verify"][0]
    headers, body = lowered(vector["headers"]), vector["body"].encode()
    timestamp, nonce = headers["wechatpay-timestamp"], headers["wechatpay-nonce"]
    assert response_message(timestamp, nonce, body) == vector["message"].encode()
    believer = keys(headers["wechatpay-serial"], vector["public_key_pem"])
    assert believer.verifies(headers, body, int(timestamp)) is vector["expected"] is True


def test_an_empty_answer_is_signed_over_its_line_feed() -> None:
    assert response_message("1722850421", "nonce", b"") == b"1722850421\nnonce\n\n"


@pytest.mark.parametrize(
    "change",
    [
        {"wechatpay-serial": "PUB_KEY_ID_0000000000000000000000000000000000"},
        {"wechatpay-serial": ""},
        {"wechatpay-nonce": "d824f2e086d3c1df967785d13fcd22ee"},
        {"wechatpay-timestamp": "1722850422"},
        {"wechatpay-timestamp": ""},
        {"wechatpay-timestamp": "now"},
        {"wechatpay-timestamp": "１７２２８５０４２１"},
        {"wechatpay-timestamp": "9" * 5000},
        {"wechatpay-signature": ""},
        {"wechatpay-signature": "WECHATPAY/SIGNTEST/" + "A" * 325},
        {"wechatpay-signature": "签名"},
        {"wechatpay-signature": "mfI1\n"},
    ],
    ids=repr,
)
def test_whatever_else_stands_in_the_headers_is_refused_without_an_exception(change: dict[str, str]) -> None:
    vector = VECTORS["response_verify"][0]
    headers, body = lowered(vector["headers"]), vector["body"].encode()
    believer = keys(headers["wechatpay-serial"], vector["public_key_pem"])
    assert not believer.verifies(headers | change, body, 1722850421)
    assert not believer.verifies({}, body, 1722850421)
    assert not believer.verifies(headers, body + b" ", 1722850421)


class TestTheFullNotification:
    """Of the Go suite. Its key has 16 bytes, a real one 32; the cipher takes both."""

    vector = VECTORS["notifications"][0]
    headers = lowered(vector["headers"])
    body = vector["body"].encode()
    now = vector["now_for_test"]

    def keys(self) -> MerchantKeys:
        return keys(self.headers["wechatpay-serial"], self.vector["certificate_pem"], self.vector["apiv3_key"])

    def test_verifies_within_five_minutes_either_way(self) -> None:
        assert WINDOW_S == 300
        for away in (-299, -1, 0, 1, 299):
            assert self.keys().verifies(self.headers, self.body, self.now + away), away

    def test_is_refused_five_minutes_later_and_earlier(self) -> None:
        for away in (-86400, -301, -300, 300, 301, 86400):
            assert not self.keys().verifies(self.headers, self.body, self.now + away), away
        assert not self.keys().verifies(self.headers, self.body, clock.unix_s())

    def test_decrypts(self) -> None:
        resource = json.loads(self.body)["resource"]
        opened = aes_gcm_decrypt(
            self.vector["apiv3_key"].encode(),
            resource["nonce"].encode(),
            resource["ciphertext"],
            resource["associated_data"].encode(),
        )
        assert opened.decode() == self.vector["plaintext"]
        assert decrypt_resource(self.keys(), resource) == json.loads(self.vector["plaintext"])

    @pytest.mark.parametrize(
        "change", [{"associated_data": "transaction"}, {"associated_data": ""}, {"nonce": "Kj7QIyUiYx1Q"}], ids=repr
    )
    def test_does_not_decrypt_when_its_frame_is_changed(self, change: dict[str, str]) -> None:
        with pytest.raises(Undecipherable):
            decrypt_resource(self.keys(), json.loads(self.body)["resource"] | change)


@pytest.mark.parametrize("timestamp", ["", "-1", "+1", " 1", "1.0", "1e3", "١", "²", "0" * 13, "abc", "1\n"])
def test_a_timestamp_is_plain_digits(timestamp: str) -> None:
    assert not is_fresh(timestamp, 1)


@pytest.mark.parametrize("vector", VECTORS["aes_gcm"], ids=lambda vector: vector["source"].rpartition("/")[2])
def test_aes_gcm(vector: dict[str, Any]) -> None:
    given = {name: vector[name].encode() for name in ("key", "nonce", "aad", "plaintext")}
    sealed = vector["ciphertext_b64"]
    assert aes_gcm_decrypt(given["key"], given["nonce"], sealed, given["aad"]) == given["plaintext"]
    assert aes_gcm_encrypt(given["key"], given["nonce"], given["plaintext"], given["aad"]) == sealed


NEGATIVES = [(vector, change) for vector in VECTORS["aes_gcm"] for change in vector.get("negative", [])]


@pytest.mark.parametrize(("vector", "change"), NEGATIVES, ids=[change for _, change in NEGATIVES])
def test_aes_gcm_that_does_not_fit(vector: dict[str, Any], change: str) -> None:
    name, _, value = change.partition("=")
    if value == "128 zero bytes":
        value = base64.b64encode(bytes(128)).decode()
    given = {part: vector[part] for part in ("key", "nonce", "aad")} | {"ciphertext": vector["ciphertext_b64"]}
    given |= {name: value}
    with pytest.raises(Undecipherable):
        aes_gcm_decrypt(given["key"].encode(), given["nonce"].encode(), given["ciphertext"], given["aad"].encode())


def test_there_are_seven_negatives() -> None:
    assert len(NEGATIVES) == 7


def test_a_downloaded_certificate() -> None:
    download = VECTORS["certificates_download"]
    (listed,) = download["response"]["data"]
    sealed = listed["encrypt_certificate"]
    pem = aes_gcm_decrypt(
        download["apiv3_key"].encode(),
        sealed["nonce"].encode(),
        sealed["ciphertext"],
        sealed["associated_data"].encode(),
    ).decode()
    assert pem.strip() == download["decrypted_certificate_pem"].strip()
    assert load_public_key(pem).key_size == 2048
    serial = f"{load_pem_x509_certificate(pem.encode()).serial_number:040X}"
    assert serial == listed["serial_no"] == download["serial_no"]


@pytest.mark.parametrize("pem", ["", "-----BEGIN PUBLIC KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n", "密钥"])
def test_a_key_that_is_none(pem: str) -> None:
    with pytest.raises(ValueError):
        load_public_key(pem)
    with pytest.raises(ValueError):
        load_private_key(pem)


def test_the_certificate_s_key_of_a_merchant_is_that_of_its_private_key() -> None:
    java = VECTORS["keys"]["java_sdk"]
    for private, certificate in (
        ("merchant_private_key_pem", "merchant_certificate_pem"),
        ("wechatpay_private_key_pem", "wechatpay_certificate_pem"),
    ):
        ours = load_public_key(public_pem(java[private])).public_numbers()
        assert load_public_key(java[certificate]).public_numbers() == ours
        serial = load_pem_x509_certificate(java[certificate].encode()).serial_number
        assert f"{serial:X}" == java[certificate.replace("_pem", "_serial")]
