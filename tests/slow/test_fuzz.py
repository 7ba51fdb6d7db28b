"""Whatever is sent to the API, alone and in sequences, it answers as its document says, and the books hold."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.access import Role
from tests.conftest import Drain, SandboxControl
from tests.sweep import everything_of
from tests.world import Person, World

pytestmark = pytest.mark.usefixtures("unlimited")

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CALLS = 5_000
# What would end the sessions that the run needs, or close most of the API to them; and readyz, which says rightly
# that no worker runs here.
LEFT_ALONE = r"/sign-out$|/sessions/|/me/close$|/second-factor-roles$|/readyz$"


def configure(folder: Path, ids: Mapping[str, str]) -> None:
    folder.mkdir()
    lines = [f"{json.dumps('path.' + name)} = {json.dumps(one)}" for name, one in ids.items()]
    (folder / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines]))


async def fuzz(base: str, who: Person | None, folder: Path, phases: str, examples: int, ids: Mapping[str, str]) -> int:
    """Run schemathesis over every route; how many calls it made. ``ids`` stand in the paths that name them."""
    configure(folder, ids)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--phases", phases,
               "--checks", CHECKS, "--max-examples", str(examples), "--seed", "20261123", "--continue-on-failure",
               "--exclude-path-regex", LEFT_ALONE, "--suppress-health-check", "all", "--generation-database", "none",
               "--warnings", "off", "--no-color"]  # fmt: skip
    if who is not None:
        command[4:4] = ["--header", f"Authorization: {who.headers['Authorization']}"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told[-8000:]
    found = re.search(r"(\d+) generated", told)
    assert found, told
    print(f"{folder.name}: {found[1]} calls; " + "; ".join(re.findall(r"API Links: .*", told)))
    return int(found[1])


async def test_no_call_breaks_a_promise_of_the_document(
    world: World, sandbox: SandboxControl, drain: Drain, owner: Any, api_base: str, tmp_path: Path, books: Any
) -> None:
    home = await world.home(bills=3)
    manager = await world.staff(home.company, Role.MANAGER)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    ids = await everything_of(world, home, sandbox, drain, owner)

    async def run(name: str, who: Person | None, phases: str, examples: int, known: Mapping[str, str]) -> int:
        calls = await fuzz(api_base, who, tmp_path / name, phases, examples, known)
        await drain()
        await books()
        return calls

    calls = await run("nobody", None, "coverage", 1, {})
    for name, who in (("resident", home.owner), ("manager", manager), ("finance", finance)):
        calls += await run(f"{name}, unknown ids", who, "coverage,stateful", 20, {})
        calls += await run(f"{name}, ids that are theirs", who, "fuzzing", 10, ids)
    print(f"{calls} calls in all")
    assert calls >= CALLS
