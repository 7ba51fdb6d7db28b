"""Nothing that must stay private reaches a log line."""

import json

import structlog

from server.log import configure_logs


def test_secrets_and_persons_are_hidden(capsys) -> None:
    configure_logs("info")
    try:
        structlog.get_logger().info(
            "something",
            token="abc",
            new_password="hunter2",
            phone="13800001234",
            openid="oAbcdefghijklmnopqrstuvwxyz1",
            note="call 13800001234 or oAbcdefghijklmnopqrstuvwxyz1",
            nested={"deep": "13800001234"},
            amount_fen=25068,
        )
        line = json.loads(capsys.readouterr().err.strip())
    finally:
        configure_logs("error")

    assert line["token"] == line["new_password"] == line["phone"] == line["openid"] == "***"
    assert line["note"] == "call 138****1234 or o***"
    assert "13800001234" not in line["nested"] and line["amount_fen"] == 25068
    assert (line["event"], line["level"]) == ("something", "info")


def test_errors_of_libraries_are_hidden_too(capsys) -> None:
    import logging

    configure_logs("info")
    try:
        logging.getLogger("some.library").error("resident 13800001234 failed")
        line = json.loads(capsys.readouterr().err.strip())
    finally:
        configure_logs("error")

    assert line["event"] == "resident 138****1234 failed"


async def test_a_request_is_logged_with_its_id_and_without_persons(world, sandbox, capsys) -> None:
    home = await world.home()
    configure_logs("info")
    try:
        answer = await home.open()
        printed = capsys.readouterr().err
    finally:
        configure_logs("error")

    assert answer.headers["X-Request-Id"] in printed
    assert home.owner.openid not in printed and home.owner.token not in printed
