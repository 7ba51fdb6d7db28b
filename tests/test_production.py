"""What production reads: settings table, Dockerfile, compose.yaml and the scripts that make roles and secrets."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli import app
from server.probe import main as probe
from server.settings import Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
DOCUMENT = (ROOT / "docs" / "production.md").read_text()
SETTINGS = {str(field.alias) for field in Settings.model_fields.values()}
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]


def test_the_table_names_every_setting_and_no_other() -> None:
    table = DOCUMENT.partition("## The settings")[2].partition("\n## ")[0]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(
        r"`([A-Z][A-Z_]+)`", line.split("|")[1])}  # fmt: skip
    assert named == SETTINGS


def test_every_variable_of_the_compose_file_is_a_setting() -> None:
    for name, service in OURS.items():
        # Redis stands between several API processes.
        assert set(service["environment"]) <= SETTINGS | {"REDIS_URL"}, name
        secrets = {Path(one).name.upper() for one in service.get("secrets", [])}
        assert secrets <= SETTINGS, name
        assert not set(service["environment"]) & secrets
    for file in ("Dockerfile",):
        declared = set(re.findall(r"^\s+(LINLI_\w+|DATABASE_URL)=", (ROOT / file).read_text(), re.MULTILINE))
        assert declared == {"LINLI_HOST", "LINLI_METRICS_HOST"} <= SETTINGS


def test_every_service_runs_a_command_that_there_is() -> None:
    assert {name: service["command"] for name, service in OURS.items()} == {
        "api-1": ["serve"], "api-2": ["serve"], "worker": ["worker"], "migrate": ["migrate"],
    }  # fmt: skip
    assert {service["command"][0] for service in OURS.values()} <= COMMANDS
    for command in re.findall(r"`linli\s+([a-z-]+)", DOCUMENT):
        assert command in COMMANDS | {"organization", "staff"}, command


def test_every_service_is_pinned_checked_and_ends_well() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"]), name
        health = service.get("healthcheck", {})
        assert "test" in health or health == {"disable": True}, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        assert "curl" not in json.dumps(health)
    for name, service in OURS.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["stop_grace_period"] == "60s", name
        assert all(one.startswith("127.0.0.1:") for one in service.get("ports", [])), name
        assert "privileged" not in service and "LINLI_ENV" not in service["environment"]
    ports = [one.split(":")[1] for service in OURS.values() for one in service.get("ports", [])]
    assert len(ports) == len(set(ports)) == 5
    assert "ports" not in SERVICES["postgres"] and "ports" not in SERVICES["redis"]


def test_nothing_starts_before_the_schema_is_there() -> None:
    for name in ("api-1", "api-2", "worker"):
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert set(OURS["migrate"]["depends_on"]) == {"postgres"}
    # Only the migration knows the owner's password.
    holders = {name for name, service in OURS.items() if "linli_owner_database_url" in service["secrets"]}
    assert holders == {"migrate"}


def test_the_secrets_are_those_that_the_script_makes(tmp_path: Path) -> None:
    wanted = {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert set(COMPOSE["secrets"]) == used == wanted

    folder = tmp_path / "secrets"
    for _ in range(2):
        subprocess.run([str(ROOT / "deploy" / "secrets.sh"), str(folder)], check=True)
        made = {path.name: path.read_text() for path in folder.iterdir()}
        assert set(made) == wanted
    subprocess.run([str(ROOT / "deploy" / "secrets.sh"), str(folder)], check=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made  # the second run changes nothing
    assert folder.stat().st_mode & 0o777 == 0o700

    found = Settings(_secrets_dir=str(folder), LINLI_ENV="production")  # type: ignore[call-arg]
    assert found.require_database_url().startswith("postgresql://linli_login:")
    assert found.require_database_url(owner=True).startswith("postgresql://linli_owner:")
    keyring = found.keyring()
    assert keyring.decrypt(keyring.encrypt("13800001234", "x"), "x") == "13800001234"


def test_the_environment_goes_before_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "database_url").write_text("postgresql://file/linli\n")
    assert Settings(_secrets_dir=str(tmp_path)).require_database_url() == "postgresql://file/linli"  # type: ignore[call-arg]
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/linli")
    assert Settings(_secrets_dir=str(tmp_path)).require_database_url() == "postgresql://environment/linli"  # type: ignore[call-arg]


def test_the_dockerfile_takes_the_production_part_alone() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (marker,) = re.findall(r"/\^(# [^/]+)/,\$d", dockerfile)
    requirements = (ROOT / "requirements.txt").read_text()
    assert len(re.findall(rf"^{marker}", requirements, re.MULTILINE)) == 1
    production = requirements.partition(marker)[0]
    assert "pytest" not in production and "asyncpg==" in production and "prometheus_client==" in production
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.MULTILINE) == [
        '["linli"]'
    ]  # exec form: the signals are ours
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"sandbox", "tests", "bench", "secrets", ".git", ".linli"} <= set(ignored)


async def test_the_probe_tells_well_from_ill(api_base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(probe, f"{api_base}/healthz") == 0
    for address in (f"{api_base}/nowhere", "http://127.0.0.1:1/healthz", "nonsense"):
        assert await asyncio.to_thread(probe, address) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
