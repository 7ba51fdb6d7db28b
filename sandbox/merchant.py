"""Merchants: what the merchant platform's web site would be told by hand."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from kit import crypto
from sandbox import platform_key
from sandbox.error import ControlError
from sandbox.platform_key import SigningKey
from sandbox.store import Store

MCHID = re.compile(r"[0-9A-Za-z]{1,32}")
SERIAL_NO = re.compile(r"[0-9A-Fa-f]{8,40}")
FEE_RATE = re.compile(r"\d{1,2}\.\d\d%")


class KeyMode(StrEnum):
    """Which of WeChat's keys a merchant has."""

    BOTH = "both"  # may choose, as while it changes over
    PUBLIC_KEY = "public_key"  # as a new merchant: there is no certificate to download
    CERTIFICATE = "certificate"  # as a merchant of old: there is no public key


@dataclass(frozen=True)
class Merchant:
    """A registered merchant, with the key that WeChat keeps for it."""

    mchid: str
    serial_no: str
    public_key: RSAPublicKey
    apiv3_key: bytes
    appids: frozenset[str]
    platform_key: SigningKey
    refund_notify_url: str | None
    key_mode: KeyMode
    public_key_share: int
    fee_rate_bp: int
    sub_merchants: Mapping[str, frozenset[str]]

    def signs_by_certificate(self, number: int) -> bool:
        """Whether the callback of this number is signed by the certificate: the share is spread evenly."""
        if self.key_mode is not KeyMode.BOTH:
            return self.key_mode is KeyMode.CERTIFICATE
        share = self.public_key_share
        return number * share // 100 == (number - 1) * share // 100


class Merchants:
    """The registered merchants, parsed once: reading keys is slow."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parsed: dict[str, Merchant] = {}

    def get(self, mchid: str) -> Merchant | None:
        """The merchant of that number, or None."""
        if mchid not in self._parsed:
            row = self._store.row("SELECT * FROM merchant WHERE mchid = ?", mchid)
            if row is None:
                return None
            appids = self._store.rows("SELECT appid FROM merchant_app WHERE mchid = ?", mchid)
            self._parsed[mchid] = Merchant(
                mchid=mchid,
                serial_no=row["serial_no"],
                public_key=crypto.load_public_key(row["public_key"]),
                apiv3_key=row["apiv3_key"].encode(),
                appids=frozenset(app["appid"] for app in appids),
                platform_key=SigningKey(row["platform_key_id"], row["platform_private_key"]),
                refund_notify_url=row["refund_notify_url"],
                key_mode=KeyMode(row["key_mode"]),
                public_key_share=row["public_key_share"],
                fee_rate_bp=row["fee_rate_bp"],
                sub_merchants={
                    sub_mchid: frozenset(appids) for sub_mchid, appids in json.loads(row["sub_merchants"]).items()
                },
            )
        return self._parsed[mchid]

    def register(
        self,
        mchid: str,
        serial_no: str,
        public_key: str,
        apiv3_key: str,
        appids: list[str],
        **more: Any,
    ) -> dict[str, Any]:
        """Put the merchant in; again replaces its side and keeps the platform's. Answers the platform's keys.

        ``more``: refund_notify_url, keys, public_key_share, fee_rate, sub_merchants; what is left out stays as it is.
        """
        _check(mchid, serial_no, public_key, apiv3_key)
        columns = _settings(**more)
        known = self._store.row("SELECT 1 FROM merchant WHERE mchid = ?", mchid)
        with self._store.transaction():
            if known is None:
                platform_public, platform_private = platform_key.make_key_pair()
                self._store.insert(
                    "merchant",
                    mchid=mchid,
                    serial_no=serial_no,
                    public_key=public_key,
                    apiv3_key=apiv3_key,
                    platform_key_id=platform_key.make_public_key_id(mchid),
                    platform_public_key=platform_public,
                    platform_private_key=platform_private,
                )
            else:
                self._store.execute(
                    "UPDATE merchant SET serial_no = ?, public_key = ?, apiv3_key = ? WHERE mchid = ?",
                    *(serial_no, public_key, apiv3_key, mchid),
                )
            for column, value in columns.items():
                self._store.execute(f"UPDATE merchant SET {column} = ? WHERE mchid = ?", value, mchid)  # noqa: S608
            self._store.execute("DELETE FROM merchant_app WHERE mchid = ?", mchid)
            for appid in sorted(set(appids)):
                self._store.insert("merchant_app", mchid=mchid, appid=appid)
        self._parsed.pop(mchid, None)
        return self.platform_keys(mchid)

    def platform_keys(self, mchid: str) -> dict[str, Any]:
        """What a merchant downloads: its WeChat Pay public key and the platform's certificates."""
        row = self._store.row("SELECT * FROM merchant WHERE mchid = ?", mchid)
        if row is None:
            raise ControlError(404, "merchant_unknown", "没有登记这个商户号。")
        has_key, has_certificates = row["key_mode"] != KeyMode.CERTIFICATE, row["key_mode"] != KeyMode.PUBLIC_KEY
        return {
            "public_key_id": row["platform_key_id"] if has_key else None,
            "public_key": row["platform_public_key"] if has_key else None,
            "certificates": [
                {"serial_no": each["serial_no"], "certificate": each["certificate"]}
                for each in (platform_key.certificates(self._store) if has_certificates else [])
            ],
        }


def _settings(**given: Any) -> dict[str, Any]:
    """The columns of the settings that were given, or 422."""
    subs = given.get("sub_merchants", {})
    unfit = {
        "keys": given.get("keys", KeyMode.BOTH) not in list(KeyMode),
        "public_key_share": not 0 <= given.get("public_key_share", 100) <= 100,
        "fee_rate": FEE_RATE.fullmatch(given.get("fee_rate", "0.60%")) is None,
        "sub_merchants": not all(
            MCHID.fullmatch(sub_mchid) and isinstance(appids, list) and all(isinstance(each, str) for each in appids)
            for sub_mchid, appids in subs.items()
        ),
    }
    if any(unfit.values()):
        raise ControlError(422, "invalid_input", "登记内容有误。", fields=[name for name, bad in unfit.items() if bad])
    columns = {
        "refund_notify_url": given.get("refund_notify_url"),
        "key_mode": given.get("keys"),
        "public_key_share": given.get("public_key_share"),
        "fee_rate_bp": int(given["fee_rate"].rstrip("%").replace(".", "")) if "fee_rate" in given else None,
        "sub_merchants": json.dumps(subs) if "sub_merchants" in given else None,
    }
    return {name: value for name, value in columns.items() if value is not None}


def _check(mchid: str, serial_no: str, public_key: str, apiv3_key: str) -> None:
    wrong = []
    if not MCHID.fullmatch(mchid):
        wrong.append("mchid")
    if not SERIAL_NO.fullmatch(serial_no):
        wrong.append("serial_no")
    if len(apiv3_key) != 32 or not apiv3_key.isascii():
        wrong.append("apiv3_key")
    try:
        crypto.load_public_key(public_key)
        if "BEGIN CERTIFICATE" in public_key:
            number = load_pem_x509_certificate(public_key.encode()).serial_number
            if number != int(serial_no, 16):
                wrong.append("serial_no")
    except ValueError:
        wrong.append("public_key")
    if wrong:
        raise ControlError(422, "invalid_input", "登记内容有误。", fields=sorted(set(wrong)))
