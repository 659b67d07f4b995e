"""Venue cases of keys and doors: VC-109 to VC-115."""

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from Crypto.PublicKey import ECC, RSA

from bot.core.errors import ConfigError
from bot.sim.guard import Guard
from tests.sim_tools import KEY, SECRET, START, close_client, endpoints
from tests.venue_rig import HOUR, Rig, order, rig_of, stop
from tests.venue_rig import rig as rig

pytestmark = pytest.mark.wire
PAIRS = {"ed25519": ECC.generate(curve="Ed25519"), "rsa": RSA.generate(2048)}


def private(kind: str) -> str:
    """The private key as python-binance takes it."""
    pair = PAIRS[kind]
    text = pair.export_key() if isinstance(pair, RSA.RsaKey) else pair.export_key(format="PEM")
    return text.decode() if isinstance(text, bytes) else text


def public(kind: str) -> str:
    """The public key as it is registered."""
    pair = PAIRS[kind]
    text = (
        pair.public_key().export_key() if isinstance(pair, RSA.RsaKey) else pair.public_key().export_key(format="PEM")
    )
    return text.decode() if isinstance(text, bytes) else text


async def signing(rig: Rig, kind: str) -> Any:
    """Give the rig a client that signs with another kind of key."""
    await close_client(rig.client)
    client, _ = endpoints(rig.port)
    rig.client = client(KEY, private_key=private(kind))
    rig.client.ws_future.TIMEOUT = 1
    return rig.client


@pytest.mark.parametrize("kind", PAIRS)
async def test_vc109_ed25519_and_rsa_keys_sign_every_kind_of_request(kind):
    async with rig_of(public_key=public(kind)) as rig:
        client = await signing(rig, kind)
        wallet = await client.futures_account_balance()
        filled = await order(rig, "BUY", newClientOrderId="signed")
        stopped = await stop(rig, "SELL", "90000", closePosition="true", clientAlgoId="sl")
        cancelled = await client.futures_cancel_algo_order(clientAlgoId="sl")
        leverage = await client.futures_change_leverage(symbol="BTCUSDT", leverage=25)
        key = await client.futures_stream_get_listen_key()

    assert wallet[0]["asset"] == "USDT"
    assert (filled["status"], stopped["algoStatus"], cancelled["code"]) == ("FILLED", "NEW", "200")
    assert (leverage["leverage"], len(key)) == (25, 64)


@pytest.mark.parametrize("kind", PAIRS)
async def test_vc110_a_signature_of_another_kind_or_key_is_not_valid(kind):
    async with rig_of(public_key=public(kind)) as rig:
        by_secret = await rig.refusal(rig.client.futures_account_balance())
        await signing(rig, "rsa" if kind == "ed25519" else "ed25519")
        by_other = await rig.refusal(rig.client.futures_account_balance())
        junk = []
        now = time.time_ns() // 1_000_000
        async with aiohttp.ClientSession(headers={"X-MBX-APIKEY": KEY}) as session:
            for text in ("00", "AAAA", "%2B%2F%3D", "%C3%A9", base64.b64encode(bytes(64)).decode().replace("=", "%3D")):
                url = f"http://127.0.0.1:{rig.port}/fapi/v3/balance?timestamp={now}&signature={text}"
                async with session.get(url) as reply:
                    junk.append((await reply.json())["code"])

    assert by_secret == by_other == (400, -1022)
    assert junk == [-1022] * 5


async def test_vc111_the_websocket_api_takes_a_signature_that_is_not_percent_encoded():
    async with rig_of(public_key=public("ed25519")) as rig:
        client = await signing(rig, "ed25519")
        params = {"apiKey": KEY, "timestamp": time.time_ns() // 1_000_000}
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        answers = []
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{rig.port}/ws-fapi/v1") as ws,
        ):
            plain = client._ed25519_signature(text)
            for signature in (plain, client.encode_uri_component(plain)):
                message = {"id": 1, "method": "v2/account.balance", "params": params | {"signature": signature}}
                await ws.send_str(orjson.dumps(message).decode())
                answers.append(await ws.receive_json())

    assert answers[0]["result"][0]["asset"] == "USDT"
    assert answers[1]["error"]["code"] == -1022


def test_only_a_public_ed25519_or_rsa_key_can_be_registered():
    curve = ECC.generate(curve="P-256").public_key().export_key(format="PEM")
    for pem, word in ((private("ed25519"), "not a private one"), (private("rsa"), "not a private one"),
                      (curve, "not NIST P-256"), ("-----BEGIN", "cannot be read"), ("x", "cannot be read")):  # fmt: skip
        with pytest.raises(ConfigError, match=word):
            Guard(KEY, SECRET, pem)
    assert Guard(KEY, SECRET, "\ufeff" + public("rsa").replace("\n", "\r\n") + "  \r\n")
    assert Guard(KEY, SECRET, "\ufeff" + public("ed25519").replace("\n", "\r\n") + "  \r\n")


async def test_vc112_malformed_keys_signatures_and_numbers_have_codes(rig):
    now = time.time_ns() // 1_000_000
    answers = {}
    async with aiohttp.ClientSession() as session:
        for name, key, query in (
            ("key", "é", f"timestamp={now}&signature=00"),
            ("stamp", KEY, "timestamp=²&signature=00"),
            ("long stamp", KEY, f"timestamp={'9' * 5000}&signature=00"),
            ("signature", KEY, f"timestamp={now}&signature=é"),
        ):
            url = f"http://127.0.0.1:{rig.port}/fapi/v3/balance?{query}"
            async with session.get(url, headers={"X-MBX-APIKEY": key}) as reply:
                answers[name] = (reply.status, (await reply.json())["code"])

    assert answers == {
        "key": (401, -2014),
        "stamp": (400, -1130),
        "long stamp": (400, -1130),
        "signature": (400, -1022),
    }
    assert await rig.refusal(rig.client.futures_klines(symbol="²", interval="1m")) == (400, -1121)
    assert await rig.refusal(rig.client.futures_klines(symbol="BTCUSDT", interval="1m", limit="x")) == (400, -1100)
    assert await rig.refusal(order(rig, "BUY", quantity="٣")) in ((400, -1100), (400, -1022))


async def test_vc113_a_handler_that_fails_answers_unknown_and_the_clock_goes_on():
    async with rig_of(speed=20.0) as rig:
        rig.exchange.start()
        rig.exchange.desk._public["GET /fapi/v1/depth"] = lambda params: 1 // 0

        failed = await rig.refusal(rig.client.futures_order_book(symbol="BTCUSDT"))
        before = (await rig.client.futures_time())["serverTime"]
        await asyncio.sleep(0.05)

        assert failed == (500, -1000)
        assert (await rig.client.futures_time())["serverTime"] > before


async def test_vc114_the_operators_side_takes_loopback_names_and_json_only(rig):
    url = f"http://127.0.0.1:{rig.port}/sim"
    seen = {}
    async with aiohttp.ClientSession() as session:
        for name, host in (("local", f"localhost:{rig.port}"), ("six", "[::1]:1"), ("rebound", "evil.example:8787")):
            async with session.get(f"{url}/state", headers={"Host": host}) as reply:
                seen[name] = reply.status
        for name, kind in (
            ("text", "text/plain"),
            ("form", "application/x-www-form-urlencoded"),
            ("json", "application/json"),
        ):
            headers = {"Content-Type": f"{kind}; charset=utf-8"}
            async with session.post(f"{url}/faults", data='[{"fault": "http_429"}]', headers=headers) as reply:
                seen[name] = reply.status
        async with session.post(f"{url}/faults", json=[], headers={"Host": "10.0.0.1"}) as reply:
            seen["other host"] = reply.status

    assert seen == {"local": 200, "six": 200, "rebound": 403, "text": 415, "form": 415, "json": 200, "other host": 403}
    assert len(rig.exchange.faults.active) == 1


async def test_vc115_switches_are_turned_while_it_runs(rig):
    status, now = await rig.post("/sim/quirks", {"max_leverage": 20, "post_only_expires": True})
    wrong = [
        await rig.post("/sim/quirks", data)
        for data in ({"nothing": 1}, {"account": "gold"}, {"max_leverage": "20"}, [])
    ]

    assert (status, now["max_leverage"], now["trade_lite"]) == (200, 20, True)
    assert [answer[0] for answer in wrong] == [400] * 4
    assert "one of standard, multi, credits, portfolio, hedge" in wrong[1][1]["msg"]
    assert await rig.refusal(rig.client.futures_change_leverage(symbol="BTCUSDT", leverage=21)) == (400, -4202)
    assert (await order(rig, "BUY", type="LIMIT", timeInForce="GTX", price="100100"))["status"] == "EXPIRED"
    assert rig.exchange.venue.now_ms == START + HOUR


def test_an_exchange_apart_reads_its_public_key_and_switches(tmp_path, monkeypatch):
    from bot.app.serve import _read_public_key, _read_quirks

    path: Path = tmp_path / "public.pem"
    path.write_text("\ufeff" + public("ed25519"))
    quirks = _read_quirks(["account=credits", "reduce_only_counts_resting=true", "max_leverage=20"])

    assert _read_public_key(str(path)) == public("ed25519")
    assert _read_public_key(None) == ""
    with pytest.raises(ConfigError, match="EXCHANGE_PUBLIC_KEY_FILE"):
        _read_public_key(str(tmp_path / "nothing"))
    assert (quirks.account, quirks.reduce_only_counts_resting, quirks.max_leverage) == ("credits", True, 20)
    assert quirks.socket_life_ms == 86_400_000
    with pytest.raises(ConfigError, match="unknown quirk"):
        _read_quirks(["nonsense"])
