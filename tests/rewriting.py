"""A proxy before an embedded exchange: it changes requests and replies, and checks signatures of private keys.

It stands where an exchange would: what a client signs with Ed25519 or RSA is verified here with the public key, over the text as
it came, and signed anew with the embedded exchange's HMAC secret.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa, pkcs1_15

from tests.places import Place
from tests.sim_tools import SECRET

Pre = Callable[[str, str], tuple[int, Any] | None]
Post = Callable[[str, str, int, Any], tuple[int, Any] | None]


def is_signed_by(public_key: str, text: str, signature: str) -> bool:
    """Verify as the exchange does: over the parameters exactly as they were sent."""
    raw = base64.b64decode(unquote(signature), validate=True)
    try:
        if "RSA" in public_key or len(public_key) > 150:
            pkcs1_15.new(RSA.import_key(public_key)).verify(SHA256.new(text.encode()), raw)
        else:
            eddsa.new(ECC.import_key(public_key), "rfc8032").verify(text.encode(), raw)
    except ValueError:
        return False
    return True


@dataclass
class Rewriting(Place):
    """The proxy; a `Place` like the exchange behind it."""

    upstream: int = 0
    pre: Pre | None = None  # an answer in the exchange's place
    post: Post | None = None  # an answer changed
    public_key: str = ""
    signed: list[str] = field(default_factory=list)  # method and path of what was signed rightly
    refused: list[str] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        method, path = request.method, request.path
        query, body = request.rel_url.raw_query_string, (await request.read()).decode()
        if self.public_key and "signature=" in query + body:
            text, _, signature = (query or body).rpartition("&signature=")
            if not is_signed_by(self.public_key, text, signature):
                self.refused.append(f"{method} {path}")
                return web.json_response({"code": -1022, "msg": "Signature for this request is not valid."}, status=400)
            self.signed.append(f"{method} {path}")
            again = f"{text}&signature={hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()}"
            query, body = (again, body) if query else (query, again)
        answer = self.pre(method, path) if self.pre else None
        if answer is not None:
            return web.json_response(answer[1], status=answer[0])
        url = f"http://127.0.0.1:{self.upstream}{path}" + (f"?{query}" if query else "")
        headers = {k: v for k, v in request.headers.items() if k in ("X-MBX-APIKEY", "Content-Type")}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, aiohttp.client.URL(url, encoded=True), headers=headers, data=body or None) as reply,
        ):
            status, payload = reply.status, await reply.json()
        changed = self.post(method, path, status, payload) if self.post else None
        status, payload = changed or (status, payload)
        return web.Response(status=status, body=json.dumps(payload), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        here = web.WebSocketResponse()
        await here.prepare(request)
        url = f"ws://127.0.0.1:{self.upstream}{request.rel_url.raw_path_qs}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as there:

            async def pass_on(source: Any, to: Any) -> None:
                with suppress(ConnectionError):
                    async for message in source:
                        await to.send_str(message.data)

            ways = [asyncio.create_task(pass_on(*pair)) for pair in ((there, here), (here, there))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        return here


@asynccontextmanager
async def rewriting(venue: Place, *, pre: Pre | None = None, post: Post | None = None, public_key: str = ""):
    """Open a proxy before a running exchange."""
    proxy = Rewriting(venue.exchange, 0, venue.port, pre, post, public_key)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.port = runner.addresses[0][1]
        yield proxy
    finally:
        await runner.cleanup()
