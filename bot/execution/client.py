"""python-binance's client and socket manager, pointed at any exchange that speaks Binance's protocol.

The library has neither environment variables nor arguments for its addresses; they are attributes, set here explicitly for
every venue, so that live, test network and embedded exchange take the same code path (venue notes 1). The installed
package stays as it is. Build the client inside the running event loop, and close it in a `finally`.

Counting: `LocalClient` counts a request from its start until its reply's body has been read or it has failed. A
stepped exchange takes the count over while it holds the request (header `X-Stepped: 1`) and gives it back with the reply.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import BytesPayload, ClientRequest
from binance import AsyncClient, BinanceSocketManager

from bot.execution.limits import Limits
from bot.execution.sockets import HardenedSocket, HardenedUserSocket
from bot.execution.stamps import SENDING, Decisions
from bot.execution.tasks import Tasks

RECV_WINDOW_MS = 5_000
QUEUE_SIZE = 100_000
KEEP_ALIVE_S = 300.0  # a listen key lives an hour
KEPT_OPEN_S = (
    75.0  # an unused connection: longer than reconciliation pauses, so that an order never waits for a handshake
)
FORM = "application/x-www-form-urlencoded"
PLAIN = re.compile(r"[A-Za-z0-9_.~&=-]+")  # what a form's encoding leaves as it is


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine.

    >>> is_loopback("ws://127.0.0.1:8080"), is_loopback("wss://fstream.binance.com")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LocalClient(AsyncClient):  # type: ignore[misc]  # the library is untyped
    """The library's REST client with explicit addresses, a small receiving window and counted requests.

    Parameters
    ----------
    rest_url, stream_url
        Bases without `/fapi` or a path, such as `https://fapi.binance.com` and `wss://fstream.binance.com`.
    decisions
        Told when an order's bytes have been handed to the socket.
    headers
        Sent with every request; an exchange in the same process wants `X-Stepped: 1`.
    """

    REQUEST_RECVWINDOW = RECV_WINDOW_MS
    REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)

    def __init__(
        self,
        api_key: str,
        api_secret: str,
        *,
        rest_url: str,
        stream_url: str,
        tasks: Tasks,
        limits: Limits,
        headers: Mapping[str, str] | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        rest, stream = rest_url.rstrip("/"), stream_url.rstrip("/")
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
        super().__init__(api_key, api_secret)

    def _init_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            request_class=_request_class(self._decisions),
            # A request that was given up keeps its connection until REQUEST_TIMEOUT: four rounds of a snapshot's dozen
            # reads must not leave an order without one.
            connector=aiohttp.TCPConnector(limit=200, keepalive_timeout=KEPT_OPEN_S),
            headers=self._get_headers() | self._extra_headers,
            cookie_jar=aiohttp.DummyCookieJar(),  # the exchange's interface has none
        )

    async def _handle_response(self, response: aiohttp.ClientResponse) -> Any:
        """Read the budget from each reply by itself: the library's `client.response` is shared by all requests."""
        self._limits.observe(response.headers)
        return await super()._handle_response(response)

    async def _request(self, *args: Any, **kwargs: Any) -> Any:
        self._activity.begin()
        try:
            return await super()._request(*args, **kwargs)
        finally:
            self._activity.end()

    async def close_connection(self) -> None:
        """Close everything that the library opens, its unused websocket API included."""
        await super().close_connection()
        await self.ws_future.close()


def _request_class(decisions: Decisions | None) -> type[ClientRequest]:
    """Return a kind of request that writes plain forms without detours, and tells when an order's bytes have left."""

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

    The general way builds a multipart writer first and costs as much as signing the order.

    >>> plain_form([("symbol", "BTCUSDT"), ("price", "60000.1")])
    b'symbol=BTCUSDT&price=60000.1'
    >>> plain_form([("note", "a=b")]), plain_form([("symbol", "币")])
    (None, None)
    """
    text = "&".join([f"{name}={value}" for name, value in pairs])
    whole = text.count("=") == len(pairs) and text.count("&") == len(pairs) - 1
    return text.encode() if whole and PLAIN.fullmatch(text) else None


class HardenedBSM(BinanceSocketManager):  # type: ignore[misc]  # the library is untyped
    """The library's socket manager, making hardened sockets and a new one on each request.

    Parameters
    ----------
    keep_alive_s
        How often the user socket prolongs its listen key, in seconds of the clock.
    """

    def __init__(self, client: LocalClient, *, tasks: Tasks, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self.FSTREAM_URL = f"{client.stream_url}/"
        super().__init__(client, user_timeout=keep_alive_s, max_queue_size=QUEUE_SIZE)
        self._tasks = tasks
        self.ws_kwargs = {"compression": None, "max_queue": None, "ping_interval": 15, "ping_timeout": 10}
        if is_loopback(client.stream_url):
            # The other end is on this machine: no proxy is wanted, and a dead peer is noticed without pings, which a
            # long step of this same process could let time out.
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
