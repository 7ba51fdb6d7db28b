"""Who may speak to the sandbox: programs on this machine, and the pages that it served itself.

A browser lets any web site send requests to 127.0.0.1. The Host check stops names that were re-bound to loopback; the
demand for application/json makes the browser ask first, and nothing here ever answers that question with yes.
"""

from sanic import Request

from sandbox.error import ControlError

HOSTS = ("127.0.0.1", "localhost")


def check(request: Request) -> None:
    """Refuse a foreign Host, and a control request that a plain HTML form could have sent."""
    port = request.conn_info.server_port if request.conn_info else 0
    allowed = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
    named = request.headers.getall("host", [])
    if len(named) != 1 or named[0].lower() not in allowed:
        raise ControlError(421, "host_not_served", "只接受 127.0.0.1 或 localhost 的请求。")
    if request.path.startswith("/sandbox/") and request.method in ("POST", "PUT"):
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ControlError(415, "content_type_not_json", "请求内容需要 application/json。")
