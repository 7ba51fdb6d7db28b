"""The rules of the house, read from the source. Each rule is a small function that is itself tried on a bad piece."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import jobs.worker  # noqa: F401 - importing registers the jobs
from jobs.registry import JOBS

ROOT = Path(__file__).parent.parent
FLOORS = {"kit": 0, "models": 1, "payments": 2, "services": 3, "jobs": 4, "handlers": 4, "server": 5}
OURS = frozenset({*FLOORS, "sandbox", "migrations", "tests", "bench"})
Found = Iterator[str]


@cache
def sources(*folders: str) -> tuple[tuple[str, str], ...]:
    """(path, text) of every Python file in the folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple((str(path.relative_to(ROOT)), path.read_text()) for path in paths)


PROGRAM = (*FLOORS, "sandbox")


def broken(rule: Callable[[str, ast.Module], Found], *folders: str, but: frozenset[str] = frozenset()) -> list[str]:
    """``path:line what`` for everything in the folders that the rule objects to."""
    return [
        f"{path}:{what}" for path, text in sources(*folders) if path not in but for what in rule(path, ast.parse(text))
    ]


def objects(rule: Callable[[str, ast.Module], Found], text: str, path: str = "services/x.py") -> bool:
    return bool(list(rule(path, ast.parse(text))))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "relative"


def called(node: ast.AST) -> str:
    """The dotted name of what is called, as far as it is plain."""
    if isinstance(node, ast.Call):
        return called(node.func)
    if isinstance(node, ast.Attribute):
        return f"{called(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# --- imports point down ---------------------------------------------------------------------------------------------


def imports_up(path: str, tree: ast.Module) -> Found:
    home = path.split("/")[0]
    for line, name in imported(tree):
        top = name.split(".")[0]
        if name == "relative":
            yield f"{line} a relative import"
        elif top in OURS and top != home and not (top in FLOORS and FLOORS[top] < FLOORS[home]):
            yield f"{line} {home} imports {name}"


# The process starts the other program, and only these two files of it know that it exists.
KNOW_THE_SANDBOX = frozenset({"server/cli.py", "server/up.py"})


def test_imports_point_down_only() -> None:
    found = broken(imports_up, *FLOORS)
    allowed = [one for one in found if one.split(":")[0] in KNOW_THE_SANDBOX and " imports sandbox" in one]
    # Only where the folder is: nothing of what stands in it.
    allowed += [one for one in found if one.startswith("models/database.py") and one.endswith(" imports migrations")]
    assert [one for one in found if one not in allowed] == []


@pytest.mark.parametrize(
    ("path", "text", "bad"),
    [
        ("kit/x.py", "import models", True),
        ("kit/x.py", "def f():\n    from models.bill import Bill", True),
        ("models/x.py", "from payments import open_payment", True),
        ("payments/x.py", "import services.bill", True),
        ("jobs/x.py", "import handlers", True),
        ("handlers/x.py", "from jobs import worker", True),
        ("services/x.py", "from . import bill", True),
        ("services/x.py", "import tests.world", True),
        ("server/x.py", "import sandbox", True),
        ("server/x.py", "import kit, jobs, handlers, payments", False),
        ("services/x.py", "from payments import receive\nimport asyncpg", False),
    ],
)
def test_the_rule_of_imports(path: str, text: str, bad: bool) -> None:
    assert objects(imports_up, text, path) is bad


def beyond_the_door(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno} imports {a.name}" for a in node.names if a.name.startswith("payments."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("payments."):
            yield f"{node.lineno} imports {node.module}"
        elif isinstance(node, ast.ImportFrom) and node.module == "payments":
            outside = {alias.name for alias in node.names} - _names_at_the_door()
            yield from (f"{node.lineno} imports {name}" for name in sorted(outside))


@cache
def _names_at_the_door() -> frozenset[str]:
    for node in ast.parse((ROOT / "payments/__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and called(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    raise AssertionError("payments has no __all__")


def test_payments_are_entered_by_the_door() -> None:
    others = [folder for folder in PROGRAM if folder != "payments"]
    assert broken(beyond_the_door, *others) == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("import payments", False),
        ("from payments import receive, PaymentSettings", False),
        ("from payments import settle_sql", True),
        ("import payments.settle", True),
        ("from payments.errors import BillVoided", True),
        ("from payments.gateways.wechat_pay import WechatPay", True),
    ],
)
def test_the_rule_of_the_door(text: str, bad: bool) -> None:
    assert objects(beyond_the_door, text) is bad


def other_than_kit(path: str, tree: ast.Module) -> Found:
    for line, name in imported(tree):
        if name.split(".")[0] in OURS - {"kit", path.split("/")[0]} or name == "relative":
            yield f"{line} imports {name}"


def test_the_sandbox_is_a_program_of_its_own() -> None:
    assert broken(other_than_kit, "sandbox") == []
    assert objects(other_than_kit, "from models.bill import Bill", "sandbox/x.py")
    assert not objects(other_than_kit, "from kit import clock\nfrom sandbox.app import create", "sandbox/x.py")


# --- size -----------------------------------------------------------------------------------------------------------

MAX_FILE, MAX_FUNCTION = 400, 70


def too_long(path: str, tree: ast.Module) -> Found:
    last = max((node.end_lineno or 0 for node in tree.body), default=0)
    if last > MAX_FILE:
        yield f"{last} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION:
                yield f"{node.lineno} {node.name} has {lines} lines"


def test_files_and_functions_fit_a_head() -> None:
    assert broken(too_long, *PROGRAM) == []


def test_the_rule_of_size() -> None:
    assert objects(too_long, "x = 1\n" * 401) and not objects(too_long, "x = 1\n" * 400)
    body = "    x = 1\n"
    assert objects(too_long, "def f():\n" + body * 70) and not objects(too_long, "def f():\n" + body * 69)
    assert objects(too_long, "class A:\n    async def f():\n" + ("    " + body) * 70)


# --- time -----------------------------------------------------------------------------------------------------------

_CLOCKS = re.compile(r"(^|\.)(datetime\.(now|utcnow|today|utcfromtimestamp)|date\.today|time\.(time|time_ns))$")


def reads_a_clock(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _CLOCKS.search(called(node)):
            yield f"{node.lineno} {called(node)}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"{node.lineno} imports {a.name} of time" for a in node.names if a.name in ("time", "time_ns"))


# The clock itself; ids, whose order is the machine's; the sandbox's clock, which faults and tests set apart from ours.
CLOCKS = frozenset({"kit/clock.py", "kit/ids.py", "sandbox/clock.py"})


def test_only_the_clock_reads_the_clock() -> None:
    assert broken(reads_a_clock, *PROGRAM, but=CLOCKS) == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("datetime.now(UTC)", True), ("datetime.datetime.utcnow()", True), ("date.today()", True),
        ("time.time()", True),
        ("from time import time", True), ("clock.now()", False), ("clock.today()", False), ("time.monotonic()", False),
        ("datetime.fromisoformat(x)", False),
    ],
)  # fmt: skip
def test_the_rule_of_time(text: str, bad: bool) -> None:
    assert objects(reads_a_clock, text) is bad


# --- money ----------------------------------------------------------------------------------------------------------


def has_a_float(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"{node.lineno} {node.value!r}"
        elif isinstance(node, ast.Call) and called(node) == "float":
            yield f"{node.lineno} float()"
        elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] == "round":
            yield f"{node.lineno} round()"


# How long to wait for another machine, in seconds: no money in these files is a float, but a timeout is.
TIMEOUTS = frozenset({"payments/gateways/wechat_pay.py"})


def near_money(path: str) -> bool:
    return path == "kit/money.py" or path.startswith(("payments/", "services/bill", "models/bill", "models/ledger"))


def test_no_float_comes_near_money() -> None:
    found = [
        one for one in broken(has_a_float, "kit", "models", "payments", "services") if near_money(one.split(":")[0])
    ]
    timeouts = [one for one in found if one.split(":")[0] in TIMEOUTS]
    assert [one for one in found if one not in timeouts] == []
    assert all("float()" not in one and "round()" not in one for one in timeouts)
    (declared,) = re.findall(r"httpx\.Timeout\(.*\)", (ROOT / "payments/gateways/wechat_pay.py").read_text())
    assert len(timeouts) == len(re.findall(r"\d+\.\d+", declared))


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("x = 0.5", True),
        ("float(x)", True),
        ("round(x, 2)", True),
        ("x = Decimal('0.5')", False),
        ("x = 5 // 2", False),
    ],
)
def test_the_rule_of_floats(text: str, bad: bool) -> None:
    assert objects(has_a_float, text) is bad


# --- nothing stays on a session -------------------------------------------------------------------------------------

_ON_THE_SESSION = re.compile(
    r"\b(pg_(try_)?advisory_lock(_shared)?\s*\(|set_config\([^)]*false\s*\)|^\s*(SET(?!\s+LOCAL)|LISTEN|PREPARE)\s+[a-z])",
    re.MULTILINE,
)


def left_on_the_session(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _ON_THE_SESSION.search(node.value):
            yield f"{node.lineno} sets something on a session that goes back to the pool as it is"


def test_nothing_is_set_on_a_session_of_the_pool() -> None:
    """Connections go back to the pool without being reset (models/database.py)."""
    assert not broken(left_on_the_session, "models", "payments", "services", "jobs", "handlers")


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ('x = "SELECT pg_advisory_lock(1)"', True),
        ('x = "SET lock_timeout = 1"', True),
        ('x = "SET LOCAL lock_timeout = 1"', False),
        ('x = "SELECT pg_advisory_xact_lock(1)"', False),
        ('x = "UPDATE a SET b = 1"', False),
    ],
)
def test_the_rule_of_sessions(text: str, bad: bool) -> None:
    assert objects(left_on_the_session, text) is bad


# --- transactions ---------------------------------------------------------------------------------------------------


def opens_a_transaction(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        name = called(node).rpartition(".")[2] if isinstance(node, ast.Call) else ""
        if name in ("in_transaction", "atomic", "_in_transaction"):
            yield f"{node.lineno} {name}()"  # type: ignore[attr-defined]


def test_there_is_one_door_to_a_transaction() -> None:
    assert broken(opens_a_transaction, *PROGRAM, but=frozenset({"models/unit_of_work.py"})) == []
    assert objects(opens_a_transaction, "async def f():\n    async with in_transaction('default'):\n        x()")
    assert objects(opens_a_transaction, "@atomic()\nasync def f():\n    pass")
    assert not objects(opens_a_transaction, "@unit_of_work\nasync def f():\n    pass")


def tx_outside(path: str, tree: ast.Module) -> Found:
    """A ``*_tx`` function called where no transaction is: not in a ``*_tx`` function, nor in a decorated one.

    What it cannot see: a function that is wrapped later, ``unit_of_work(f)``, counts as inside only when it is named
    so in the same file; and a name is all that tells, so a ``*_tx`` passed along as a value is not followed.
    """
    wrapped = {
        called(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node.func).endswith("unit_of_work")
        for argument in node.args
    }

    def look(node: ast.AST, inside: bool) -> Found:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                decorated = any(called(one).endswith("unit_of_work") for one in child.decorator_list)
                yield from look(child, decorated or child.name.endswith("_tx") or child.name in wrapped)
            elif isinstance(child, ast.Lambda):
                continue
            else:
                if isinstance(child, ast.Call) and not inside and not isinstance(child.func, ast.Call):
                    name = called(child).rpartition(".")[2]
                    if name.endswith("_tx"):
                        yield f"{child.lineno} {name}"
                yield from look(child, inside)

    yield from look(tree, False)


def test_what_must_be_inside_a_transaction_is_called_inside_one() -> None:
    assert broken(tx_outside, *PROGRAM) == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("async def f():\n    await g_tx()", True),
        ("async def f():\n    await payments.g_tx(1)", True),
        ("@unit_of_work\nasync def f():\n    async def h():\n        await g_tx()", True),
        ("async def f_tx():\n    await g_tx()", False),
        ("@unit_of_work\nasync def f():\n    await g_tx()", False),
        ("async def f():\n    await unit_of_work(g_tx)(1)", False),
        ("async def f():\n    async def h():\n        await g_tx()\n    await unit_of_work(h)()", False),
    ],
)
def test_the_rule_of_tx(text: str, bad: bool) -> None:
    assert objects(tx_outside, text) is bad


# --- jobs -----------------------------------------------------------------------------------------------------------


def enqueued(tree: ast.Module) -> Iterator[tuple[int, str | None]]:
    """The job name of every ``enqueue_tx``, None where it is no plain text, and of the job in a settlement's SQL."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if called(node).rpartition(".")[2] == "enqueue_tx":
            first = node.args[0] if node.args else None
            yield node.lineno, str(first.value) if isinstance(first, ast.Constant) else None
        # rows(settle_sql.WRITE, …, QUEUE, "name", …): the name stands after the queue.
        for queue, name in zip(node.args, node.args[1:], strict=False):
            if isinstance(queue, ast.Name) and queue.id == "QUEUE":
                yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else None


def test_every_job_that_is_asked_for_is_registered() -> None:
    asked = {
        (f"{path}:{line}", name)
        for path, text in sources(*FLOORS)
        if path not in ("models/job.py",)
        for line, name in enqueued(ast.parse(text))
    }
    assert {one for one in asked if one[1] not in JOBS} == set()
    assert ("payment_settled", True) in {(name, where.startswith("payments/settle.py")) for where, name in asked}
    assert len(asked) >= 4


def test_the_rule_of_jobs() -> None:
    tree = ast.parse("enqueue_tx('a', {})\nenqueue_tx(name, {})\nrows(SQL, 1, QUEUE, 'b', x)\nrows(SQL, 'c')")
    assert list(enqueued(tree)) == [(1, "a"), (2, None), (3, "b")]


# --- habits ---------------------------------------------------------------------------------------------------------


def swallows(path: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"{node.lineno} a bare except"
            if all(isinstance(one, ast.Pass) or called(getattr(one, "value", one)) == "Ellipsis" for one in node.body):
                yield f"{node.lineno} except and pass"


def test_no_error_is_swallowed() -> None:
    assert broken(swallows, *PROGRAM) == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("try:\n    x()\nexcept ValueError:\n    pass", True),
        ("try:\n    x()\nexcept:\n    raise", True),
        ("try:\n    x()\nexcept ValueError:\n    return None", False),
    ],
)
def test_the_rule_of_errors(text: str, bad: bool) -> None:
    assert objects(swallows, text) is bad


def undocumented(path: str, tree: ast.Module) -> Found:
    if not ast.get_docstring(tree):
        yield "1 the file"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{node.lineno} {node.name}"


def test_every_public_function_says_what_it_does() -> None:
    assert broken(undocumented, "kit", "payments", "services") == []
    assert objects(undocumented, '"""x"""\ndef f(): ...') and objects(undocumented, "x = 1")
    assert not objects(undocumented, '"""x"""\ndef f():\n    """x"""\ndef _g(): ...')


def unexplained_enum(path: str, tree: ast.Module) -> Found:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(called(base).endswith("Enum") for base in node.bases):
            if not ast.get_docstring(node):
                yield f"{node.lineno} {node.name}"


def test_every_enum_says_what_it_lists() -> None:
    assert broken(unexplained_enum, *PROGRAM) == []
    assert objects(unexplained_enum, "class A(StrEnum):\n    B = 'b'")
    assert not objects(unexplained_enum, "class A(StrEnum):\n    '''x'''\n    B = 'b'")


# --- words that belong into no file ---------------------------------------------------------------------------------

_PIECES = [
    ("/wo", "rk/"), ("/ro", "ot/"), ("/home/", "user"), ("/Use", "rs/"), ("cla", "ude"), ("anth", "ropic"),
    ("open", "ai"), ("chat", "gpt"), ("co", "pilot"), ("language ", "model"), ("system ", "prompt"), ("sub", "agent"),
    ("arti", "factory"), ("python", "hosted"), ("registry", ".npmjs"), ("goproxy", "."), ("/tmp/", "bash"),
]  # fmt: skip
WORDS = tuple("".join(pieces) for pieces in _PIECES)
_TEXT = {".py", ".md", ".txt", ".toml", ".json", ".html", ".css", ".js", ".yml", ".yaml", ".sh", ".cfg", ".ini", ""}
_NOT_OURS = {".git", ".venv", ".linli", ".hypothesis", "__pycache__", "build", "dist", "node_modules"}


def strange_words(text: str) -> list[str]:
    lowered = text.lower()
    return [word for word in WORDS if word.lower() in lowered]


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    found = {}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if any(part in _NOT_OURS or part.endswith(("_cache", ".egg-info")) for part in parts):
            continue
        if path.is_file() and path.suffix in _TEXT and (words := strange_words(path.read_text(errors="replace"))):
            found["/".join(parts)] = words
    assert found == {}
    assert strange_words(f"see {WORDS[0]}x and {WORDS[5].title()}") == [WORDS[0], WORDS[5]]
    assert strange_words("work is rooted here: services/work_order.py") == []
