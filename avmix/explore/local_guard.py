"""What stands in front of the local page: who may ask, for what, and how much may be sent.

A server on the loopback interface can still be reached by other users of the machine, and by any
page that the browser has open: directly, or under a name that a foreign DNS server points at
127.0.0.1 (DNS rebinding). So every request must name this server as its host, come from its own
page, and carry a secret that is only in the address that was printed.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_PREFIXES = ("/_nicegui/", "/_nicegui_ws/")
_PAGES = frozenset({"/", "/favicon.ico"})
_HEADERS = (
    # Nothing is loaded from elsewhere. The library compiles its templates in the page.
    (b"content-security-policy",
     b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
     b"style-src 'self' 'unsafe-inline'; connect-src 'self' data:; frame-ancestors 'none'; "
     b"form-action 'self'; base-uri 'none'; object-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


class LocalGuard:
    """ASGI application that passes on to another what comes from its own page on this machine."""

    def __init__(self, app: App, *, port: int, token: str, max_body_bytes: int) -> None:
        """`token`: the secret; `?token=` gives it once, a cookie from then on."""
        self.app, self._token, self._max = app, token, max_body_bytes  # nicegui looks for `app`
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        self._origins = {b"http://" + host for host in self._hosts}
        self._cookie = f"avmix_explore_{port}"  # cookies do not know ports

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass on, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _all_headers(scope)
        refused = self._refused(scope, headers)
        if scope["type"] == "websocket":
            if refused or not self._is_known(headers):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        if refused:
            await _answer(send, *refused)
        elif self._is_known(headers):
            await self.app(scope, receive, _with_headers(send))
        elif scope["path"] == "/" and self._is_token(_token_of(scope)):
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", ((b"location", b"/"), (b"set-cookie", cookie.encode())))
        else:
            await _answer(send, 403, "open the whole address that avmix explore printed")

    def _refused(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
        """Status and reason; None where host, origin, path and size are in order."""
        host = headers.get(b"host", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return 403, "this page is served to this machine only"
        if any(origin.lower() not in self._origins for origin in headers.get(b"origin", [])):
            return 403, "asked for by another page"
        sites = headers.get(b"sec-fetch-site", [])
        if any(site not in (b"same-origin", b"none") for site in sites):
            return 403, "asked for by another page"
        path = scope["path"]
        raw = scope.get("raw_path") or path.encode()
        if not (path in _PAGES or path.startswith(_PREFIXES)):
            return 404, "not found"
        if ".." in path or "\\" in path or "\0" in path or b"%2e" in raw.lower():
            return 404, "not found"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            length = headers.get(b"content-length", [])
            if len(length) != 1 or not length[0].isdigit():
                return 411, "its length must be said"
            if int(length[0]) > self._max:
                return 413, "larger than what may be uploaded"
        return None

    def _is_known(self, headers: dict[bytes, list[bytes]]) -> bool:
        for line in headers.get(b"cookie", []):
            try:
                found = SimpleCookie(line.decode("latin-1")).get(self._cookie)
            except CookieError:
                continue
            if found is not None and self._is_token(found.value):
                return True
        return False

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())


def _all_headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _token_of(scope: Scope) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]


def _with_headers(send: Callable[[Message], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sent


async def _answer(
    send: Callable[[Message], Awaitable[None]],
    status: int,
    text: str,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    head = [kind, *headers, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": text.encode()})
