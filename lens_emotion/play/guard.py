"""What keeps the page to this machine and this origin: a wrapper around the app, before any route is asked.

A page on the web can make a browser call 127.0.0.1, and by DNS rebinding even under a name of its own. So the Host
header must be this server's, and so must Origin, where a browser sends one.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lens_emotion.play.ask import MAX_BODY

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TooLargeError(Exception):
    """A request's body is over the limit."""


def guarded(app: ASGIApp, port: int) -> ASGIApp:
    """The app behind the checks, with the same headers on every answer."""
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = _refusal(Headers(scope=scope), hosts)
        await (refusal or app)(scope, receive, with_headers)

    return wrapped


def _refusal(headers: Headers, hosts: set[str]) -> Response | None:
    if headers.get("host") not in hosts:
        return problem(403, f"this server answers to {' or '.join(sorted(hosts))} only")
    origin = headers.get("origin")
    if origin is not None and origin not in {f"http://{host}" for host in hosts}:
        return problem(403, "a page of another origin may not use this server")
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return problem(403, "a page of another site may not use this server")
    return None


def problem(status: int, message: str) -> Response:
    """An answer that says what is wrong."""
    return JSONResponse({"error": message}, status_code=status)


async def body_of(request: Request) -> bytes:
    """The body, read no further than the limit.

    Raises:
        TooLargeError: it is longer.
    """
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise TooLargeError(f"the request is over {MAX_BODY // 1024} KiB; shorten the text")
    return b"".join(parts)
