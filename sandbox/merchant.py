"""Merchants: what the merchant platform's web site would be told by hand."""

import re
from dataclasses import dataclass
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
            )
        return self._parsed[mchid]

    def register(
        self,
        mchid: str,
        serial_no: str,
        public_key: str,
        apiv3_key: str,
        appids: list[str],
        refund_notify_url: str | None = None,
    ) -> dict[str, Any]:
        """Put the merchant in; again replaces its side and keeps the platform's. Answers the platform's keys."""
        _check(mchid, serial_no, public_key, apiv3_key)
        known = self._store.row("SELECT platform_key_id FROM merchant WHERE mchid = ?", mchid)
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
            self._store.execute("UPDATE merchant SET refund_notify_url = ? WHERE mchid = ?", refund_notify_url, mchid)
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
        return {
            "public_key_id": row["platform_key_id"],
            "public_key": row["platform_public_key"],
            "certificates": [
                {"serial_no": each["serial_no"], "certificate": each["certificate"]}
                for each in platform_key.certificates(self._store)
            ],
        }


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
