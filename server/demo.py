"""Demo data as the command line makes, renews and throws away."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from models.database import credentials
from server.embedded_postgres import remove_files
from server.postgres_home import private_folder
from server.settings import Settings
from server.supervisor import CannotRun, database
from services import demo


class SandboxRegistrar:
    """Tells the sandbox of merchants and apps, as somebody would at WeChat's merchant site."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def register_merchant(
        self, mchid: str, serial_no: str, public_key_pem: str, apiv3_key: str, appids: list[str]
    ) -> dict[str, Any]:
        """WeChat's keys for the merchant: public_key_id, public_key, certificates."""
        document = {
            "serial_no": serial_no,
            "public_key": public_key_pem,
            "apiv3_key": apiv3_key,
            "appids": appids,
        }
        answer = await self._http.put(f"/sandbox/merchants/{mchid}", json=document)
        answer.raise_for_status()
        keys: dict[str, Any] = answer.json()
        return keys

    async def register_app(self, appid: str, secret: str, name: str, templates: dict[str, str]) -> None:
        """Make the mini-program known."""
        document = {"secret": secret, "name": name, "templates": templates}
        answer = await self._http.put(f"/sandbox/apps/{appid}", json=document)
        answer.raise_for_status()

    async def know(self, openid: str, appid: str) -> None:
        """Make the person known: WeChat knows an openid once its owner opened the app."""
        answer = await self._http.post("/sandbox/login-code", json={"openid": openid, "app": appid})
        answer.raise_for_status()


async def fill(settings: Settings) -> str:
    """Fill an empty database, or make an existing demo known to the sandbox again; a sentence about it.

    Raises ValueError for a database that is neither.
    """
    path = private_folder(settings.state) / "demo.json"
    async with httpx.AsyncClient(base_url=settings.api_base(), trust_env=False, timeout=30) as http:
        registrar = SandboxRegistrar(http)
        if await demo.is_empty():
            told = await demo.seed(registrar)
            told = {"addresses": addresses(settings), **told}
            write_private(path, json.dumps(told, ensure_ascii=False, indent=1))
            said = f"demo data made; {path} tells whom to sign in as"
        elif not await demo.is_demo():
            raise ValueError("the database holds data that is not a demo; demo data is for an empty one")
        elif not await demo.is_seeded() or not path.exists():
            raise ValueError("the demo was not made to its end, or its demo.json is gone: run `make reset` first")
        else:
            await demo.register_again(registrar)
            told = json.loads(path.read_text()) | {"addresses": addresses(settings)}
            write_private(path, json.dumps(told, ensure_ascii=False, indent=1))
            said = "the demo of the last run goes on"
        for resident in told["residents"]:
            await registrar.know(resident["openid"], resident["appid"])
    return said


def addresses(settings: Settings) -> dict[str, str]:
    """What is where."""
    api = f"http://127.0.0.1:{settings.port}"
    return {"api": api, "docs": f"{api}/docs", "sandbox": f"http://127.0.0.1:{settings.sandbox_port}"}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    temporary.replace(path)


def reset(settings: Settings) -> str | None:
    """Throw the demo away; a sentence when that is refused. A database without the demo mark is not touched."""
    state = settings.state
    if settings.database_url is None and not state.exists():
        return None
    url = settings.database_url.get_secret_value() if settings.database_url else None
    try:
        with database(state, url, alone=True) as server:
            owner_url = server.url("linli") if server else settings.require_database_url(owner=True)
            problem = asyncio.run(_refusal(owner_url))
            if problem is None and server is None:
                asyncio.run(_drop_everything(owner_url))
    except CannotRun as error:
        return str(error)
    if problem is None:
        _forget(state, files_of_server=url is None)
    return problem


async def _refusal(owner_url: str) -> str | None:
    try:
        connection = await asyncpg.connect(**credentials(owner_url))
    except asyncpg.InvalidCatalogNameError:
        return None  # the embedded server was started and never filled
    try:
        if await connection.fetchval("SELECT to_regclass('organizations')") is None:
            return None
        if await connection.fetchval("SELECT bool_or(demo) FROM installations"):
            return None
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM organizations)"):
            return None
    finally:
        await connection.close()
    return "this database has no demo mark: it is somebody's real data, and is not touched"


async def _drop_everything(owner_url: str) -> None:
    """In a server that is not ours: the tables go, the database and its roles stay."""
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()


def _forget(state: Path, *, files_of_server: bool) -> None:
    for name in ("demo.json", "sandbox.db", "sandbox.db-wal", "sandbox.db-shm", "keys.json"):
        (state / name).unlink(missing_ok=True)
    if files_of_server:
        remove_files(state / "postgres")
    shutil.rmtree(state / "log", ignore_errors=True)
