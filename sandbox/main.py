"""Starting the sandbox: from the command line, from another program, or inside a test's event loop."""

import argparse
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sanic import Sanic

from sandbox.app import App, create_app
from sandbox.config import LOOPBACK, Config
from sandbox.store import StateUnusable, Store


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line with the address once it listens.

    Raises OSError for a port that is taken and StateUnusable for a state file that is.
    """
    Store(config.state).close()
    app = create_app(config)
    listening = _listen(config)

    async def announce(app: App) -> None:
        print(f"sandbox listening at {_address(listening)}", flush=True)

    app.after_server_start(announce)
    app.run(sock=listening, single_process=True, access_log=False, motd=False)


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[str]:
    """Inside, a sandbox serves on the present event loop; gives its address. For tests."""
    async with serving(create_app(config), config) as base:
        yield base


@contextlib.asynccontextmanager
async def serving(app: App, config: Config) -> AsyncIterator[str]:
    """The same for an app that is made already: making one costs more than most tests, so they may share it and open a
    state of their own each (``open_state`` and ``close_state``)."""
    # Sanic rewrites its protocol's methods at every start, and fails at the second one in a process.
    app.config.TOUCHUP = False
    listening = _listen(config)
    server: Any = await app.create_server(sock=listening, return_asyncio_server=True, access_log=False)
    if server is None:
        raise RuntimeError("the server did not start")
    try:
        await server.startup()
        await server.before_start()
        await server.after_start()
        await server.start_serving()
        yield _address(listening)
    finally:
        await server.before_stop()
        await server.close()
        for connection in list(server.connections):
            connection.abort()
        await server.after_stop()
        Sanic.unregister_app(app)


def _listen(config: Config) -> socket.socket:
    listening = socket.create_server((config.host, config.port), backlog=512)
    listening.setblocking(False)
    return listening


def _address(listening: socket.socket) -> str:
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m sandbox --state FILE [--port 8100] [--api http://127.0.0.1:8000] [--speed 1]``."""
    parser = argparse.ArgumentParser(prog="sandbox", description="A WeChat that runs on your laptop.")
    parser.add_argument("--state", type=Path, required=True, help="the sqlite file; made if missing")
    parser.add_argument("--port", type=int, default=8100, help="0 takes a free one (default 8100)")
    parser.add_argument("--api", default="http://127.0.0.1:8000", help="the only origin that is called back")
    parser.add_argument("--speed", type=int, default=1, help="retry schedule: seconds passing in one second")
    parser.add_argument("--subscriptions", type=int, default=1000, help="messages allowed per person and template")
    parser.add_argument("--refund-s", type=int, default=3, help="seconds of the schedule until a refund is decided")
    given = parser.parse_args(arguments)
    try:
        config = Config(
            *(given.state, given.port, given.api),
            speed=given.speed,
            subscriptions=given.subscriptions,
            refund_s=given.refund_s,
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        serve(config)
    except (OSError, StateUnusable) as error:
        parser.exit(1, f"sandbox: {error}\n")
