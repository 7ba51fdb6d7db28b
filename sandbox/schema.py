"""The tables of the state file, as steps: a file of an earlier version is brought along when it is opened.

A step that was ever released is not changed; what comes later is a step of its own.
"""

_FIRST = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE platform_certificate (
    serial_no TEXT PRIMARY KEY, certificate TEXT NOT NULL, private_key TEXT NOT NULL,
    effective_time TEXT NOT NULL, expire_time TEXT NOT NULL);

CREATE TABLE merchant (
    mchid TEXT PRIMARY KEY, serial_no TEXT NOT NULL, public_key TEXT NOT NULL, apiv3_key TEXT NOT NULL,
    platform_key_id TEXT NOT NULL, platform_public_key TEXT NOT NULL, platform_private_key TEXT NOT NULL);
CREATE TABLE merchant_app (mchid TEXT NOT NULL, appid TEXT NOT NULL, PRIMARY KEY (mchid, appid)) WITHOUT ROWID;

CREATE TABLE app (seq INTEGER PRIMARY KEY, appid TEXT NOT NULL UNIQUE, secret TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE template (
    appid TEXT NOT NULL, template_id TEXT NOT NULL, title TEXT NOT NULL,
    PRIMARY KEY (appid, template_id)) WITHOUT ROWID;
CREATE TABLE person (openid TEXT PRIMARY KEY, appid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE code (
    code TEXT PRIMARY KEY, kind TEXT NOT NULL, openid TEXT NOT NULL, phone TEXT, expires_s INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE access_token (
    token TEXT PRIMARY KEY, appid TEXT NOT NULL, issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL,
    forced INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX access_token_by_app ON access_token (appid, expires_s);
CREATE TABLE subscription (
    openid TEXT NOT NULL, template_id TEXT NOT NULL, remaining INTEGER NOT NULL,
    PRIMARY KEY (openid, template_id)) WITHOUT ROWID;
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, openid TEXT NOT NULL, appid TEXT NOT NULL, template_id TEXT NOT NULL, page TEXT,
    data TEXT NOT NULL, sent_at TEXT NOT NULL);
CREATE INDEX message_by_person ON message (openid, seq);

-- mchid is the calling merchant, for whom out_trade_no is unique.
CREATE TABLE trade (
    seq INTEGER PRIMARY KEY, mchid TEXT NOT NULL, appid TEXT NOT NULL, out_trade_no TEXT NOT NULL,
    product TEXT NOT NULL, fingerprint TEXT NOT NULL, description TEXT NOT NULL, attach TEXT,
    notify_url TEXT NOT NULL, openid TEXT, total_fen INTEGER NOT NULL, currency TEXT NOT NULL,
    created_at TEXT NOT NULL, time_expire TEXT NOT NULL, expires_s INTEGER NOT NULL,
    trade_state TEXT NOT NULL, transaction_id TEXT UNIQUE, success_time TEXT,
    UNIQUE (mchid, out_trade_no));
CREATE INDEX trade_by_state ON trade (trade_state, seq);
CREATE TABLE prepay (
    prepay_id TEXT PRIMARY KEY, trade_seq INTEGER NOT NULL, expires_s INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX prepay_by_trade ON prepay (trade_seq);

CREATE TABLE callback (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mchid TEXT NOT NULL, out_trade_no TEXT NOT NULL,
    event_type TEXT NOT NULL, original_type TEXT NOT NULL, summary TEXT NOT NULL, resource TEXT NOT NULL,
    notify_url TEXT NOT NULL, create_time TEXT NOT NULL, treatment TEXT NOT NULL,
    state TEXT NOT NULL, rounds INTEGER NOT NULL DEFAULT 0, due_ms INTEGER);
CREATE INDEX callback_due ON callback (due_ms) WHERE state = 'pending';
CREATE INDEX callback_by_order ON callback (out_trade_no);
CREATE TABLE callback_attempt (
    seq INTEGER PRIMARY KEY, callback_seq INTEGER NOT NULL, at TEXT NOT NULL, reason TEXT NOT NULL,
    signature TEXT NOT NULL, status INTEGER, error TEXT, answer TEXT NOT NULL);
CREATE INDEX callback_attempt_by_callback ON callback_attempt (callback_seq);

CREATE TABLE fault (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, out_trade_no TEXT, operation TEXT, times_left INTEGER,
    params TEXT NOT NULL);
"""

# Refunds. ``due_ms`` is of the retry clock and null when nothing more happens by itself. ``fingerprint`` is null for a
# refund that was made by hand. A notice goes out as v3 JSON or, where the merchant platform's address is used, as XML.
_REFUNDS = """
CREATE TABLE refund (
    seq INTEGER PRIMARY KEY, trade_seq INTEGER NOT NULL, mchid TEXT NOT NULL, out_refund_no TEXT NOT NULL,
    refund_id TEXT NOT NULL UNIQUE, fingerprint TEXT, by_hand INTEGER NOT NULL, reason TEXT, notify_url TEXT,
    refund_fen INTEGER NOT NULL, funds_account TEXT NOT NULL, status TEXT NOT NULL, outcome TEXT NOT NULL,
    due_ms INTEGER, created_at TEXT NOT NULL, success_time TEXT,
    UNIQUE (mchid, out_refund_no));
CREATE INDEX refund_by_trade ON refund (trade_seq);
CREATE INDEX refund_due ON refund (due_ms) WHERE due_ms IS NOT NULL;

ALTER TABLE trade ADD COLUMN sub_mchid TEXT;
ALTER TABLE trade ADD COLUMN sub_appid TEXT;
ALTER TABLE trade ADD COLUMN sub_openid TEXT;
ALTER TABLE trade ADD COLUMN paid_s INTEGER;
ALTER TABLE merchant ADD COLUMN refund_notify_url TEXT;
ALTER TABLE callback ADD COLUMN format TEXT NOT NULL DEFAULT 'json';
"""

# What a merchant may have: which keys of WeChat's, which share of callbacks signed by the public key, which commission
# in hundredths of a percent, which sub-merchants it acts for (a JSON object of their apps).
_MERCHANTS = """
ALTER TABLE merchant ADD COLUMN key_mode TEXT NOT NULL DEFAULT 'both';
ALTER TABLE merchant ADD COLUMN public_key_share INTEGER NOT NULL DEFAULT 100;
ALTER TABLE merchant ADD COLUMN fee_rate_bp INTEGER NOT NULL DEFAULT 60;
ALTER TABLE merchant ADD COLUMN sub_merchants TEXT NOT NULL DEFAULT '{}';
"""

# Bills. A refund's ``fee_fen`` is the commission that came back with it, ``decided_at`` when its status last changed.
_BILLS = """
ALTER TABLE trade ADD COLUMN fee_fen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trade ADD COLUMN fee_rate_bp INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refund ADD COLUMN fee_fen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refund ADD COLUMN decided_at TEXT;
CREATE TABLE movement (
    seq INTEGER PRIMARY KEY, mchid TEXT NOT NULL, account TEXT NOT NULL, amount_fen INTEGER NOT NULL,
    number TEXT NOT NULL, moved_at TEXT NOT NULL);
CREATE TABLE bill_file (
    token TEXT PRIMARY KEY, mchid TEXT NOT NULL, content BLOB NOT NULL, zipped INTEGER NOT NULL,
    expires_s INTEGER NOT NULL) WITHOUT ROWID;
"""

# More of the mini-program server API. ``plain`` marks tokens of /cgi-bin/token, which live apart from stable ones.
_MINIPROGRAM = """
ALTER TABLE app ADD COLUMN trade_managed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN message_push TEXT;
ALTER TABLE person ADD COLUMN unionid TEXT;
ALTER TABLE access_token ADD COLUMN plain INTEGER NOT NULL DEFAULT 0;
CREATE TABLE shipping (
    trade_seq INTEGER PRIMARY KEY, appid TEXT NOT NULL, content TEXT NOT NULL, uploads INTEGER NOT NULL,
    uploaded_at TEXT NOT NULL);
"""

STEPS = (_FIRST, _REFUNDS, _MERCHANTS, _BILLS, _MINIPROGRAM)
