"""Making the environment: one clear sentence when it cannot be, nothing to do when it is there, whole or not at all."""

from __future__ import annotations

import ast
import fcntl
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bootstrap() -> ModuleType:
    return load()


class Installer:
    """Stands in for venv and pip; a clone with the files they read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.did: list[str] = []
        self.fail_at = ""
        (root / "requirements.txt").write_text("# a comment\none==1\n")
        (root / "pyproject.toml").write_text("[project]\n")

    def run(self, command: list[str], sentence: str) -> None:
        what = next(word for word in ("venv", "-r", "-e") if word in command)
        self.did.append(what)
        if what == self.fail_at:
            raise KeyboardInterrupt
        if what == "venv":
            shutil.rmtree(self.root / ".venv", ignore_errors=True)
            (self.root / ".venv" / "bin").mkdir(parents=True)
            (self.root / ".venv" / "bin" / "python").touch()

    def take(self) -> list[str]:
        did, self.did = self.did, []
        return did


@pytest.fixture
def installer(tmp_path: Path, bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Installer:
    installer = Installer(tmp_path)
    monkeypatch.setattr(bootstrap, "_run", installer.run)
    return installer


def test_an_old_python_can_read_it() -> None:
    source = (ROOT / "bootstrap.py").read_text(encoding="ascii")
    tree = ast.parse(source, feature_version=(3, 4))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Nonlocal, ast.YieldFrom)
    assert [node for node in ast.walk(tree) if isinstance(node, modern)] == []
    assert not re.search(r"\braise .* from\b|^import (pathlib|typing)|: str\b|->", source, re.MULTILINE)


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 0), (3, 10, 13)])
def test_an_old_python_is_one_sentence(bootstrap: ModuleType, version: tuple[int, int, int]) -> None:
    with pytest.raises(bootstrap.Refused) as refusal:
        bootstrap.require_python(version, find=lambda name: None)
    assert str(refusal.value) == (
        f"Linli needs Python 3.11 or newer, and this is {version[0]}.{version[1]}: "
        "install one, or say which: 'make PYTHON=python3.12 run'."
    )


def test_a_newer_python_beside_an_old_one_is_taken(bootstrap: ModuleType) -> None:
    find = {"python3.12": "/a/python3.12", "python3.11": "/a/python3.11"}.get
    assert bootstrap.require_python((3, 9, 2), find=find) == "/a/python3.12"
    assert bootstrap.require_python((3, 11, 0), find=find) is None
    assert bootstrap.require_python((4, 0, 0), find=find) is None


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_missing_venv_module_is_one_sentence(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert bootstrap.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"This Python has no module '{missing}' to make an environment with: install it ")
    assert said.count("\n") == 1


def test_it_is_made_once_and_then_needs_nothing(bootstrap: ModuleType, installer: Installer) -> None:
    bootstrap.environment(str(installer.root))
    assert installer.take() == ["venv", "-r", "-e"]
    bootstrap.environment(str(installer.root))
    assert installer.take() == []


@pytest.mark.parametrize(
    ("change", "done"),
    [
        (lambda root: (root / "requirements.txt").write_text("one==2\n"), ["venv", "-r", "-e"]),
        (lambda root: (root / ".venv" / "bin" / "python").unlink(), ["venv", "-r", "-e"]),
        (lambda root: shutil.rmtree(root / ".venv"), ["venv", "-r", "-e"]),
        (lambda root: (root / "pyproject.toml").write_text("[project]\nname = 'x'\n"), ["-e"]),
        (lambda root: (root / "services").mkdir(), ["-e"]),
    ],
)
def test_a_change_makes_anew_what_depends_on_it(
    bootstrap: ModuleType, installer: Installer, change: Callable[[Path], object], done: list[str]
) -> None:
    bootstrap.environment(str(installer.root))
    installer.take()
    change(installer.root)
    bootstrap.environment(str(installer.root))
    assert installer.take() == done


def test_another_python_makes_it_anew(
    bootstrap: ModuleType, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.environment(str(installer.root))
    installer.take()
    monkeypatch.setattr(sys, "version", "3.99.0 (another)")
    bootstrap.environment(str(installer.root))
    assert installer.take() == ["venv", "-r", "-e"]


@pytest.mark.parametrize(
    ("at", "again"), [("venv", ["venv", "-r", "-e"]), ("-r", ["venv", "-r", "-e"]), ("-e", ["-e"])]
)
def test_an_interruption_half_way_is_made_good(
    bootstrap: ModuleType, installer: Installer, at: str, again: list[str]
) -> None:
    installer.fail_at = at
    with pytest.raises(KeyboardInterrupt):
        bootstrap.environment(str(installer.root))
    installer.take()
    installer.fail_at = ""
    bootstrap.environment(str(installer.root))
    assert installer.take() == again


def test_a_failing_program_is_shown_under_one_sentence(bootstrap: ModuleType) -> None:
    code = "import sys; print('\\n'.join(str(n) for n in range(100))); sys.exit(1)"
    with pytest.raises(bootstrap.Refused) as refusal:
        bootstrap._run([sys.executable, "-c", code], "The packages could not be installed")
    assert str(refusal.value).splitlines()[0] == "The packages could not be installed; the last it said:"
    assert str(refusal.value).splitlines()[1:] == [f"    {number}" for number in range(92, 100)]


def test_clean_takes_everything_away_but_not_while_it_runs(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".linli").mkdir()
    (tmp_path / "kit").mkdir()
    with (tmp_path / ".linli" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(bootstrap.Refused, match="Linli runs here: stop it first"):
            bootstrap.clean(str(tmp_path))
    assert (tmp_path / ".venv").exists()
    bootstrap.clean(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]
    bootstrap.clean(str(tmp_path))


def pinned() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(one.name) for one in wanted}) == len(wanted)
    return {canonicalize_name(one.name): one for one in wanted}


def test_every_requirement_is_pinned_and_nothing_else_is_said() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert re.fullmatch(r"(#.*)?|[A-Za-z0-9._-]+(\[[a-z]+\])?==[0-9][0-9A-Za-z.]*", line), line


def test_what_the_pinned_packages_need_is_pinned_too() -> None:
    pins = pinned()
    missing = set()
    for name, pin in pins.items():
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            extras = pin.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                found = pins.get(canonicalize_name(need.name))
                if found is None or not need.specifier.contains(str(found.specifier).removeprefix("=="), True):
                    missing.add(f"{name} needs {text}")
    assert missing == set()


def test_what_pyproject_names_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= set(pinned())


def test_production_needs_nothing_from_the_tests_section() -> None:
    production = (ROOT / "requirements.txt").read_text().split("# What tests and checks need")[0]
    names = {canonicalize_name(Requirement(line).name) for line in production.splitlines() if re.match(r"\w", line)}
    tests = set(pinned()) - names
    for name in names:
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) not in tests, f"{name} needs {text}"


@pytest.mark.parametrize("failing", ["", "test", "lint"])
def test_ci_runs_every_step_and_fails_with_any(tmp_path: Path, failing: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "making $1"\n[ "$1" != "{failing}" ]\n')
    make.chmod(0o755)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")  # the slower checks pass
    python.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)
    steps = re.findall(r"^making (\w+)$", done.stdout, re.MULTILINE)
    assert steps[:3] == ["environment", "test", "lint"] or failing
    assert {"test", "lint"} <= set(steps)
    assert done.returncode == (1 if failing else 0), done.stdout


def test_make_help_lists_every_command() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[1] for line in said.splitlines()}
    assert {"run", "test", "lint", "format", "reset", "tour", "clean", "help", "environment"} <= listed
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == listed
