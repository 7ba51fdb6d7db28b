"""Settlements by the real callback route, beside pgbench running the same statements on the same kind of rows."""

import json
import re
import secrets
import statistics
from collections.abc import Mapping
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from bench.load import Measured, pgbench, send, serving
from bench.town import BILLS_OF_AN_OPEN_PAYMENT, Town
from kit import clock
from kit.crypto import aes_gcm_encrypt, load_private_key, rsa_sign
from kit.wechat_signature import response_message
from payments import callback, settle_sql

CLIENTS = 16
ROUNDS = 5
A_ROUND = 1_600
SETTLED_BY_A_RUN = A_ROUND * (ROUNDS + 1) * 2

# What one callback does, in order: (statement, what stands for its $1, $2 …). A bare word is a column of bench_notices;
# a test runs a real callback and compares. The accounts are known by heart by then (payments/ledger.py).
Statement = tuple[str, tuple[str, ...]]
STATEMENTS: tuple[tuple[Statement, ...], ...] = (
    (
        (
            callback._KEEP,
            ("notification", "merchant", "event", "at", "'payment'", "'TRANSACTION.SUCCESS'", "envelope", "at"),
        ),
    ),
    (
        (settle_sql.LOCK_ATTEMPT, ("merchant", "number")),
        (settle_sql.LOCK_BILLS, ("payment",)),
        (settle_sql.LINES_DUE, ("bills",)),
        (
            settle_sql.WRITE,
            (
                "attempt",
                "payment",
                "transaction",
                "amount",
                "at",
                "0",
                "community",
                "entity",
                "debit",
                "'{payment}'",
                "'{0}'",
                "credits",
                "amounts",
                "bills",
                "lines",
                "fens",
                "at",
                "'linli'",
                "'payment_settled'",
                "arguments",
                "notification",
                "at",
            ),
        ),
    ),
)

_NOTICES = """
CREATE TABLE bench_notices AS
SELECT (row_number() OVER () - 1)::int AS n, uuidv7() AS notification, a.merchant_account_id AS merchant,
    'EV-P-' || a.out_trade_no AS event, now() AS at, a.out_trade_no AS number, p.id AS payment, a.id AS attempt,
    p.legal_entity_id AS entity, p.community_id AS community, p.organization_id AS organization, uuidv7() AS spare,
    'TP-' || a.out_trade_no AS transaction, a.amount_fen AS amount, $2::uuid AS debit, ARRAY[$3::uuid] AS credits,
    ARRAY[a.amount_fen] AS amounts, o.bills, o.lines, o.fens, repeat('x', $4::int) AS envelope,
    '{"payment_id": "' || p.id || '"}' AS arguments
FROM unnest($1::text[]) t(number)
JOIN payment_attempts a ON a.out_trade_no = t.number JOIN payments p ON p.id = a.payment_id
CROSS JOIN LATERAL (
    SELECT array_agg(b.id ORDER BY b.id) AS bills, array_agg(l.id ORDER BY b.id) AS lines,
        array_agg(l.amount_fen ORDER BY b.id) AS fens
    FROM payment_bills pb JOIN bills b ON b.id = pb.bill_id JOIN bill_lines l ON l.bill_id = b.id
    WHERE pb.payment_id = p.id
) o
"""


def script() -> str:
    """The statements of one callback for pgbench, each transaction between BEGIN and COMMIT; the values of a notice are
    looked up first, which ``lookup`` alone is measured for."""
    parts = [lookup()]
    for transaction in STATEMENTS:
        parts += ["BEGIN;", *(_filled(sql, values) for sql, values in transaction), "COMMIT;"]
    return "\n".join(parts)


def lookup() -> str:
    """Only the look-up of a notice's values."""
    return (
        "\\set i :i + 1\n\\set n :first + :client_id * :share + :i\n"
        "SELECT * FROM bench_notices WHERE n = :n \\gset v_\n"
    )


def _filled(sql: str, values: tuple[str, ...]) -> str:
    def value(found: re.Match[str]) -> str:
        wanted = values[int(found[1]) - 1]
        return f":v_{wanted}" if wanted.isidentifier() else wanted

    text = re.sub(r"--.*", "", sql)
    return " ".join(re.sub(r"\$(\d+)", value, text).split()) + ";"


def notice(town: Town, number: str, amount_fen: int) -> bytes:
    """A whole callback request as WeChat sends it, signed now."""
    now = clock.now()
    paid = {
        "mchid": town.merchant.mchid,
        "appid": town.company.app.appid,
        "out_trade_no": number,
        "transaction_id": f"TC-{number}",
        "trade_type": "JSAPI",
        "trade_state": "SUCCESS",
        "bank_type": "OTHERS",
        "success_time": now.astimezone(clock.BEIJING).isoformat(timespec="seconds"),
        "payer": {"openid": "o-bench"},
        "amount": {"total": amount_fen, "payer_total": amount_fen, "currency": "CNY", "payer_currency": "CNY"},
    }
    nonce = secrets.token_hex(6)
    envelope = {
        "id": f"EV-C-{number}",
        "create_time": now.isoformat(timespec="seconds"),
        "resource_type": "encrypt-resource",
        "event_type": "TRANSACTION.SUCCESS",
        "summary": "支付成功",
        "resource": {
            "original_type": "transaction",
            "algorithm": "AEAD_AES_256_GCM",
            "associated_data": "transaction",
            "nonce": nonce,
            "ciphertext": aes_gcm_encrypt(
                town.merchant.apiv3_key, nonce.encode(), json.dumps(paid).encode(), b"transaction"
            ),
        },
    }
    body = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
    return _request(town, body)


@cache
def _signing_key(pem: str) -> RSAPrivateKey:
    return load_private_key(pem)


def signed_headers(town: Town, body: bytes) -> dict[str, str]:
    """WeChat's signature over these bytes."""
    timestamp, nonce = str(clock.unix_s()), secrets.token_hex(16)
    key = _signing_key(town.merchant.platform_key.private_key)
    return {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": town.merchant.platform_key.serial,
        "Wechatpay-Signature": rsa_sign(key, response_message(timestamp, nonce, body)),
    }


def _request(town: Town, body: bytes) -> bytes:
    head = [
        f"POST /callbacks/wechat/pay/{town.company.merchant.id} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in signed_headers(town, body).items()),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def run(town: Town, settled_rows: int) -> Mapping[str, float]:
    """Both sides in turns, ROUNDS times; every settlement is of a payment of its own with three bills."""
    ours: list[Measured] = []
    theirs: list[Measured] = []
    lookups: list[Measured] = []
    todo = await town.add(SETTLED_BY_A_RUN, settled=False, bills_each=BILLS_OF_AN_OPEN_PAYMENT)
    with_us, with_pgbench = todo[::2], todo[1::2]
    size = len(notice(town, *with_us[0]))
    await town.owner.execute("DROP TABLE IF EXISTS bench_notices")
    await town.owner.execute(_NOTICES.replace("$1::text[]", _array(with_pgbench)).replace("$2", f"'{town.ids[7]}'")
                             .replace("$3", f"'{town.ids[8]}'").replace("$4", str(size)))  # fmt: skip
    await town.owner.execute("CREATE UNIQUE INDEX ON bench_notices (n)")
    await town.owner.execute("GRANT SELECT ON bench_notices TO linli_app")
    await town.owner.execute("VACUUM ANALYZE bench_notices")
    each = A_ROUND // CLIENTS
    with serving(town, "server.cli", "serve") as (port, pid):
        for number in range(ROUNDS + 1):
            requests = [notice(town, *one) for one in with_us[number * A_ROUND : (number + 1) * A_ROUND]]
            places = {"first": number * A_ROUND, "share": each, "i": -1}
            lookups.append(pgbench(town, lookup(), CLIENTS, each, **places))
            theirs.append(pgbench(town, script(), CLIENTS, each, **places))
            ours.append(await send(port, requests, CLIENTS, b"204", pid))
    await _assert_settled(town, SETTLED_BY_A_RUN)
    return _told(settled_rows, ours[1:], theirs[1:], lookups[1:])  # the first round warms both sides up


def _array(numbers: list[tuple[str, int]]) -> str:
    return "ARRAY[" + ",".join(f"'{number}'" for number, _ in numbers) + "]"


async def _assert_settled(town: Town, wanted: int) -> None:
    open_ones = await town.owner.fetchval("SELECT count(*) FROM payments WHERE state = 'open'")
    assert open_ones == 0, f"{open_ones} of {wanted} payments were not settled"


def _told(
    settled_rows: int, ours: list[Measured], theirs: list[Measured], lookups: list[Measured]
) -> Mapping[str, float]:
    def limit_per_s(both: tuple[Measured, Measured]) -> float:
        all_of_it, lookup_alone = both
        return 1 / (1 / all_of_it.per_s - 1 / lookup_alone.per_s)

    limits = [limit_per_s(both) for both in zip(theirs, lookups, strict=True)]
    ratios = [one.per_s / limit for one, limit in zip(ours, limits, strict=True)]
    return {
        "settled rows before": settled_rows,
        "callbacks/s": statistics.median(one.per_s for one in ours),
        "pgbench/s": statistics.median(limits),
        "ratio": statistics.median(ratios),
        "ratio, worst round": min(ratios),
        "p50 ms": statistics.median(one.p50_ms for one in ours),
        "p99 ms": statistics.median(one.p99_ms for one in ours),
        "pgbench p99 ms": statistics.median(one.p99_ms for one in theirs),
        "CPU of the API, µs each": statistics.median(one.cpu_us for one in ours),
    }
