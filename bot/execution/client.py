"""python-binance's client and socket manager, pointed at any exchange that speaks Binance's protocol.

The library has neither environment variables nor arguments for its addresses; they are attributes, set here explicitly for
every venue, so that live, testnet and embedded exchange take the same code path (venue notes 1). The installed package is not
patched. Build the client inside the running event loop, and close it in a `finally`.

Outgoing: connections are encrypted (except to an exchange on this machine), redirects are refused, the key is sent only with
requests that need one. Incoming: a body of more than 8 MB, compressed or decompressed, and a frame of more than 1 MB are not
read to the end.

Counting: `LocalClient` counts a request from its start until its reply's body has been read or it has failed. A stepped
exchange takes the count over while it holds the request (header `X-Stepped: 1`) and returns it with the reply.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from aiohttp import BytesPayload, ClientRequest
from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException

from bot.core.addresses import host_of, is_loopback, require_encrypted
from bot.core.errors import WireError
from bot.execution.limits import RequestLimits
from bot.execution.outcomes import Redirected
from bot.execution.sockets import HardenedSocket, HardenedUserSocket
from bot.execution.stamps import SENDING, Decisions
from bot.execution.tasks import Tasks

RECV_WINDOW_MS = 5_000
QUEUE_SIZE = 100_000
KEEP_ALIVE_S = 300.0  # a listen key is valid for an hour
KEPT_OPEN_S = (
    75.0  # an idle connection: longer than the pause between reconciliations, so that no order waits for a handshake
)
FORM = "application/x-www-form-urlencoded"
KEY_HEADER = "X-MBX-APIKEY"
KEYED_PATHS = ("/listenKey",)  # in addition to all signed requests
ENCODING = {"Accept-Encoding": "gzip"}
MOST_BODY = 8 << 20  # bytes, compressed or decompressed; exchangeInfo, the largest reply, has 1.5 MB
MOST_FRAME = 1 << 20
PLAIN = re.compile(r"[A-Za-z0-9_.~&=-]+")  # characters that form encoding leaves unchanged


class LocalClient(AsyncClient):  # type: ignore[misc]  # the library is untyped
    """The library's REST client with explicit addresses, a small `recvWindow` and counted requests.

    Parameters
    ----------
    private_key
        An Ed25519 or RSA key as PEM without passphrase, which signs instead of the secret.
    rest_url, stream_url
        Base URLs without `/fapi` or a path, such as `https://fapi.binance.com` and `wss://fstream.binance.com`.
    decisions
        Notified when an order's bytes have been handed to the socket.
    headers
        Sent with every request; an exchange in the same process needs `X-Stepped: 1`.

    Raises
    ------
    ConfigError
        An address is neither encrypted nor on this machine.
    """

    REQUEST_RECVWINDOW = RECV_WINDOW_MS
    REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)

    def __init__(
        self,
        api_key: str,
        api_secret: str,
        *,
        private_key: str = "",
        rest_url: str,
        stream_url: str,
        tasks: Tasks,
        limits: RequestLimits,
        headers: Mapping[str, str] | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        rest = require_encrypted(rest_url, "rest_url").rstrip("/")
        stream = require_encrypted(stream_url, "stream_url").rstrip("/")
        self.API_URL = f"{rest}/api"
        self.MARGIN_API_URL = f"{rest}/sapi"
        self.FUTURES_URL = f"{rest}/fapi"
        self.FUTURES_DATA_URL = f"{rest}/futures/data"
        self.WS_API_URL = f"{stream}/ws-api/v3"
        self.WS_FUTURES_URL = f"{stream}/ws-fapi/v1"
        self.rest_url, self.stream_url = rest, stream
        self._activity = tasks.activity
        self._limits = limits
        self._decisions = decisions
        self._extra_headers = dict(headers or {})
        super().__init__(api_key, api_secret, private_key=private_key, requests_params={"allow_redirects": False})

    def _init_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            request_class=_request_class(self._decisions),
            # An abandoned request keeps its connection until REQUEST_TIMEOUT: four rounds of a snapshot's dozen reads
            # must not leave an order without one.
            connector=aiohttp.TCPConnector(limit=200, keepalive_timeout=KEPT_OPEN_S),
            # Without the key: `_request` adds it where the exchange requires one.
            headers={k: v for k, v in self._get_headers().items() if k != KEY_HEADER} | self._extra_headers | ENCODING,
            auto_decompress=False,  # `bounded_body` does it and enforces the limit
            trust_env=not is_loopback(self.rest_url),  # HTTPS_PROXY and NO_PROXY; no proxy for this machine
            cookie_jar=aiohttp.DummyCookieJar(),  # the exchange's API uses none
        )

    async def _handle_response(self, response: aiohttp.ClientResponse) -> Any:
        """Read the request budget from each reply: the library's `client.response` is shared by all requests.

        Raises
        ------
        Redirected
            The reply is a redirect.
        BinanceAPIException
            The HTTP status is not 2xx.
        WireError
            The body is empty, not JSON, too large or cannot be decompressed.
        """
        self._limits.observe(response.headers)
        if 300 <= response.status < 400:
            place = host_of(response.headers.get("Location", ""))
            raise Redirected(response.status, f"the exchange redirects to {place} (HTTP {response.status}): refused")
        body = await bounded_body(response)
        if not 200 <= response.status < 300:
            raise BinanceAPIException(response, response.status, body.decode(errors="replace"))
        if not body.strip():
            raise WireError("the reply is empty")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise WireError(f"the reply is no JSON (HTTP {response.status})") from None

    async def _request(self, method: str, uri: str, signed: bool, force_params: bool = False, **kwargs: Any) -> Any:
        if self.API_KEY and (signed or uri.endswith(KEYED_PATHS)):
            kwargs["data"] = {**kwargs.get("data", {}), "headers": {KEY_HEADER: self.API_KEY}}
        self._activity.begin()
        try:
            return await super()._request(method, uri, signed, force_params, **kwargs)
        finally:
            self._activity.end()

    async def close_connection(self) -> None:
        """Close everything the library opens, including its unused websocket API."""
        await super().close_connection()
        await self.ws_future.close()


async def bounded_body(response: aiohttp.ClientResponse) -> bytes:
    """Return a reply's decompressed body; one that is too large, compressed or decompressed, is not read to the end.

    Raises
    ------
    WireError
        It is too large, truncated, cannot be decompressed or has an encoding that was not requested.
    """
    if (response.content_length or 0) > MOST_BODY:
        response.close()
        raise WireError(f"the reply is too large: {response.content_length} bytes of at most {MOST_BODY}")
    encoding = response.headers.get("Content-Encoding", "").lower()
    if encoding not in ("", "identity", "gzip"):
        response.close()
        raise WireError(f"the reply is packed as {encoding[:20]!r}, which was not asked for")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    body, packed = bytearray(), 0
    async for chunk in response.content.iter_any():
        packed += len(chunk)
        try:
            body += chunk if unpack is None else unpack.decompress(chunk, MOST_BODY + 1 - len(body))
        except zlib.error:
            response.close()
            raise WireError("the reply cannot be unpacked") from None
        if max(packed, len(body)) > MOST_BODY:
            response.close()  # the rest is not worth a connection
            raise WireError(f"the reply is too large: more than {MOST_BODY} bytes")
    if unpack is not None and not unpack.eof:
        raise WireError("the reply ends in the middle")
    return bytes(body)


def _request_class(decisions: Decisions | None) -> type[ClientRequest]:
    """Return a request class that writes plain forms directly and notifies `decisions` when an order's bytes are written."""

    class Request(ClientRequest):
        def update_body_from_data(self, body: Any, *args: Any, **kwargs: Any) -> None:
            plain = plain_form(body) if type(body) is list else None
            super().update_body_from_data(
                body if plain is None else BytesPayload(plain, content_type=FORM), *args, **kwargs
            )

        async def write_bytes(self, *args: Any, **kwargs: Any) -> None:
            await super().write_bytes(*args, **kwargs)
            if decisions is not None and (client_id := SENDING.get()):
                decisions.written(client_id)

    return Request


def plain_form(pairs: list[tuple[str, str]]) -> bytes | None:
    """Return a form's body if none of its names and values needs encoding, else None.

    The general path builds a multipart writer first and costs as much as signing the order.

    >>> plain_form([("symbol", "BTCUSDT"), ("price", "60000.1")])
    b'symbol=BTCUSDT&price=60000.1'
    >>> plain_form([("note", "a=b")]), plain_form([("symbol", "币")])
    (None, None)
    """
    text = "&".join([f"{name}={value}" for name, value in pairs])
    whole = text.count("=") == len(pairs) and text.count("&") == len(pairs) - 1
    return text.encode() if whole and PLAIN.fullmatch(text) else None


class HardenedBSM(BinanceSocketManager):  # type: ignore[misc]  # the library is untyped
    """The library's socket manager; returns hardened sockets, a new one for each request.

    Parameters
    ----------
    keep_alive_s
        How often the user socket renews its listen key, in seconds of the clock.
    """

    def __init__(self, client: LocalClient, *, tasks: Tasks, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self.FSTREAM_URL = f"{client.stream_url}/"
        super().__init__(client, user_timeout=keep_alive_s, max_queue_size=QUEUE_SIZE)
        self._tasks = tasks
        # A frame larger than `max_size` ends the connection. Proxies come from the environment, as for REST.
        self.ws_kwargs = {
            "compression": None,
            "max_queue": None,
            "max_size": MOST_FRAME,
            "ping_interval": 15,
            "ping_timeout": 10,
            "proxy": True,
        }
        if is_loopback(client.stream_url):
            # The peer is on this machine: no proxy, and no pings, because a dead peer is noticed without them and a
            # long step of this same process could let them time out.
            self.ws_kwargs |= {"proxy": None, "ping_interval": None}

    def _get_socket(
        self, path: str, stream_url: str | None = None, prefix: str = "ws/", is_binary: bool = False, **_: Any
    ) -> HardenedSocket:
        return HardenedSocket(
            path=path,
            url=self._get_stream_url(stream_url),
            prefix=prefix,
            is_binary=is_binary,
            max_queue_size=self._max_queue_size,
            tasks=self._tasks,
            **self.ws_kwargs,
        )

    def _get_account_socket(
        self, path: str, stream_url: str | None = None, prefix: str = "ws/", is_binary: bool = False
    ) -> HardenedUserSocket:
        return HardenedUserSocket(
            client=self._client,
            url=self._get_stream_url(stream_url),
            keepalive_type=path,
            prefix=prefix,
            is_binary=is_binary,
            user_timeout=self._user_timeout,
            max_queue_size=self._max_queue_size,
            tasks=self._tasks,
            **self.ws_kwargs,
        )
