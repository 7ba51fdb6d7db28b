"""A Sanic application with nothing in it but the given statements: what the web server, the driver and the database
allow. ``python -m bench.bare STATEMENTS`` serves on LINLI_PORT."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import asyncpg
from sanic import HTTPResponse, Request, Sanic

from models.database import credentials


def main() -> None:
    statements = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - written by this program a moment ago
    app: Sanic[Any, Any] = Sanic("bare", configure_logging=False)

    async def connect(app: Sanic[Any, Any]) -> None:
        settings = {"role": "linli_app", "timezone": "UTC"}
        app.ctx.pool = await asyncpg.create_pool(
            **credentials(os.environ["DATABASE_URL"]), min_size=16, max_size=16, server_settings=settings, reset=_leave
        )

    async def answer(_request: Request) -> HTTPResponse:
        found: list[Any] = []
        async with app.ctx.pool.acquire() as connection:
            for sql, values in statements:
                found.append([dict(row) for row in await connection.fetch(sql, *values)])
        return HTTPResponse(json.dumps(found, default=str), content_type="application/json")

    app.before_server_start(connect)
    app.add_route(answer, "/", methods=["GET"])
    app.run("127.0.0.1", int(os.environ["LINLI_PORT"]), single_process=True, access_log=False, motd=False)


async def _leave(_connection: Any) -> None:
    return None


if __name__ == "__main__":
    main()
