"""The session of the sandbox's manual, line by line: what is shown there is what comes out."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from sandbox.config import Config
from sandbox.main import running

MANUAL = Path(__file__).parent.parent / "docs" / "sandbox.md"
NEXT = "--- next ---"
# Whatever is new each time: numbers that are made, instants, signatures and dates in words.
CHANGES = re.compile(
    r"[0-9A-Za-z_%-]{20,}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\+08:00)?|127\.0\.0\.1:\d+|\d{5}(?=, \"cal)"
)


def session() -> list[tuple[str, str]]:
    """Command and output, in order."""
    manual = MANUAL.read_text(encoding="utf-8")
    block = manual[manual.index("```console\n") + len("```console\n") :].partition("```")[0]
    steps: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        else:
            command, output = steps[-1]
            steps[-1] = (command, f"{output}{line}\n")
    return steps


async def played(base: str, folder: Path) -> list[str]:
    """What each command of the session says, run in one shell."""
    commands = "".join(f"{command}\nprintf '\\n%s\\n' '{NEXT}'\n" for command, _ in session())
    script = commands.replace("http://127.0.0.1:8100", base)
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-e", "-c", script),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    output, _ = await shell.communicate()
    assert shell.returncode == 0, output.decode()
    return output.decode().split(f"\n{NEXT}\n")[:-1]


def lasting(text: str) -> str:
    """The text without what is new each time."""
    return re.sub(r"\d+", "0", CHANGES.sub("#", text.replace("\r", ""))).strip()


async def test_the_session_of_the_manual(tmp_path: Path) -> None:
    missing = [tool for tool in ("bash", "curl", "openssl", "awk", "sed") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the session needs {', '.join(missing)}")
    async with running(Config(tmp_path / "state.db", port=0)) as base:
        said = await played(base, tmp_path)
    shown = [output for _, output in session()]
    assert len(said) == len(shown) > 10
    for (command, _), was, now in zip(session(), shown, said, strict=True):
        assert lasting(now) == lasting(was), command
