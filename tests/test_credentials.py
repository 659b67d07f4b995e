"""Keys of three kinds: read as people store them, named when they are wrong, hidden everywhere, and they sign."""

import asyncio
import json
import os
import sys

import pytest
from Crypto.PublicKey import DSA, ECC, RSA

from bot.app import stream_checks
from bot.app.connection import addresses, connected
from bot.app.credentials import ED25519, HMAC, RSA_KIND, Credentials, secrets_for
from bot.app.doctor import examine
from bot.core.errors import ConfigError
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.redact import redact
from bot.core.types import OrderSide, OrderType, TimeInForce
from bot.execution.outcomes import Accepted
from tests.conftest import ROOT
from tests.places import SYMBOLS, place
from tests.rewriting import rewriting
from tests.sim_tools import KEY, SECRET

PASS = "open sesame of the bot"
ED = ECC.generate(curve="ed25519")
RSA_KEY = RSA.generate(2048)
ED_PEM = ED.export_key(format="PEM")
RSA_PEM = RSA_KEY.export_key(pkcs=8).decode()
LOCKED = {
    "Ed25519": ED.export_key(
        format="PEM", passphrase=PASS, use_pkcs8=True, protection="PBKDF2WithHMAC-SHA512AndAES256-CBC"
    ),
    "RSA": RSA_KEY.export_key(pkcs=8, passphrase=PASS, protection="PBKDF2WithHMAC-SHA512AndAES256-CBC").decode(),
    "RSA of old": RSA_KEY.export_key(pkcs=1, passphrase=PASS).decode(),
}
PUBLIC = {ED25519: ED.public_key().export_key(format="PEM"), RSA_KIND: RSA_KEY.public_key().export_key().decode()}


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("BINANCE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BINANCE_API_KEY", KEY)
    monkeypatch.setattr(stream_checks, "FRAME_WAIT_S", 1.5)


def refused(monkeypatch, **environment: str) -> str:
    """Return the sentence, which shows nothing of what was set."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        secrets_for("live")
    text = str(error.value)
    assert "\n" not in text
    assert not any(len(word) > 20 and word in text for value in environment.values() for word in value.split())
    return text


AS_STORED = {
    "as it is": lambda pem: pem.encode(),
    "byte-order mark": lambda pem: b"\xef\xbb\xbf" + pem.encode(),
    "UTF-16 of PowerShell": lambda pem: pem.encode("utf-16"),
    "CRLF": lambda pem: pem.replace("\n", "\r\n").encode(),
    "spaces and lines around": lambda pem: f"\n\n   {pem}  \n\n\n".encode(),
    "indented": lambda pem: "\n".join(f"    {line}  " for line in pem.splitlines()).encode(),
    "one line": lambda pem: pem.replace("\n", "\\n").encode(),
    "spaces for lines": lambda pem: pem.replace("\n", " ").encode(),
    "with its public key": lambda pem: f"{PUBLIC[ED25519]}\n{pem}\n".encode(),
}


@pytest.mark.parametrize("stored", AS_STORED)
@pytest.mark.parametrize(("pem", "kind"), [(ED_PEM, ED25519), (RSA_PEM, RSA_KIND)])
def test_a_key_file_is_read_however_it_was_stored(monkeypatch, tmp_path, pem, kind, stored):
    file = tmp_path / "key.pem"
    file.write_bytes(AS_STORED[stored](pem))
    monkeypatch.setenv("BINANCE_PRIVATE_KEY_FILE", str(file))

    keys = secrets_for("live")

    assert (keys.api_key, keys.kind, keys.secret) == (KEY, kind, "")
    assert keys.private_key.strip() == pem.strip()


@pytest.mark.parametrize("name", ["BINANCE_API_SECRET", "BINANCE_API_SECRET_FILE", "BINANCE_PRIVATE_KEY"])
def test_the_secret_itself_may_be_a_pem(monkeypatch, tmp_path, name):
    (tmp_path / "key").write_text(ED_PEM)
    monkeypatch.setenv(name, str(tmp_path / "key") if name.endswith("_FILE") else ED_PEM)

    assert secrets_for("testnet") == Credentials(KEY, private_key=ED_PEM, kind=ED25519)


def test_hmac_keys_are_read_from_files_with_marks_and_line_ends(monkeypatch, tmp_path):
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    (tmp_path / "secret").write_bytes(b"  " + SECRET.encode() + b" \r\n\r\n")
    monkeypatch.setenv("BINANCE_API_KEY", "")  # as a compose file leaves what is not set
    monkeypatch.setenv("BINANCE_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("BINANCE_API_SECRET_FILE", str(tmp_path / "secret"))

    assert secrets_for("live") == Credentials(KEY, SECRET, kind=HMAC)


@pytest.mark.parametrize("name", LOCKED)
def test_an_encrypted_key_opens_with_its_passphrase_alone(monkeypatch, name):
    without = refused(monkeypatch, BINANCE_API_SECRET=LOCKED[name])
    wrong = refused(monkeypatch, BINANCE_PRIVATE_KEY_PASS="not that one")
    monkeypatch.setenv("BINANCE_PRIVATE_KEY_PASS", PASS)

    assert without == (
        "BINANCE_API_SECRET holds an encrypted private key: set BINANCE_PRIVATE_KEY_PASS to its passphrase"
    )
    assert "does not open with the passphrase in BINANCE_PRIVATE_KEY_PASS" in wrong
    assert secrets_for("live").private_key == (ED_PEM if name == "Ed25519" else RSA_PEM)


WRONG = {
    "public": (PUBLIC[ED25519], "holds a public key"),
    "public RSA": (PUBLIC[RSA_KIND], "holds a public key"),
    "P-256": (ECC.generate(curve="p256").export_key(format="PEM"), "holds an EC key (NIST P-256)"),
    "old P-256": (ECC.generate(curve="p256").export_key(format="PEM", use_pkcs8=False), "holds an EC key"),
    "Ed448": (ECC.generate(curve="ed448").export_key(format="PEM"), "holds an EC key (Ed448)"),
    "short RSA": (RSA.generate(1024).export_key().decode(), "an RSA key of 1024 bits"),
    "DSA": (DSA.generate(1024).export_key().decode(), "of a kind that is not taken"),
    "damaged": (ED_PEM.replace("MC4C", "MC4B"), "cannot be read"),
    "cut off": (ED_PEM[:70], "no complete PEM text"),
    "certificate": ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "PEM text of a CERTIFICATE"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_key_of_the_wrong_kind_is_named_as_such(monkeypatch, kind):
    pem, told = WRONG[kind]

    text = refused(monkeypatch, BINANCE_API_SECRET=pem)

    assert text.startswith(("BINANCE_API_SECRET", "the private key in BINANCE_API_SECRET"))
    assert told in text


def test_what_stands_in_the_wrong_place_is_named(monkeypatch, tmp_path):
    assert "BINANCE_API_KEY holds a PEM text" in refused(monkeypatch, BINANCE_API_KEY=ED_PEM, BINANCE_API_SECRET=KEY)
    assert "are the same" in refused(monkeypatch, BINANCE_API_KEY=SECRET, BINANCE_API_SECRET=SECRET)
    monkeypatch.setenv("BINANCE_API_KEY", KEY)
    assert "both set" in refused(monkeypatch, BINANCE_PRIVATE_KEY=ED_PEM)
    monkeypatch.delenv("BINANCE_PRIVATE_KEY")
    assert "more than one word" in refused(monkeypatch, BINANCE_API_SECRET=f"{KEY}\n{SECRET}")
    monkeypatch.delenv("BINANCE_API_SECRET")
    assert "no complete PEM text" in refused(monkeypatch, BINANCE_PRIVATE_KEY=SECRET)
    monkeypatch.delenv("BINANCE_PRIVATE_KEY")
    (tmp_path / "key.der").write_bytes(ED.export_key(format="DER") + b"\xff")
    assert "holds no text" in refused(monkeypatch, BINANCE_PRIVATE_KEY_FILE=str(tmp_path / "key.der"))
    assert "cannot be read" in refused(monkeypatch, BINANCE_PRIVATE_KEY_FILE=str(tmp_path / "absent"))
    monkeypatch.delenv("BINANCE_PRIVATE_KEY_FILE")
    assert "BINANCE_PRIVATE_KEY_FILE" in refused(monkeypatch)


def test_nothing_of_a_private_key_or_its_passphrase_is_shown(monkeypatch):
    monkeypatch.setenv("BINANCE_API_SECRET", LOCKED["RSA"])
    monkeypatch.setenv("BINANCE_PRIVATE_KEY_PASS", PASS)

    keys = secrets_for("live")

    texts = [LOCKED["RSA"], keys.private_key, json.dumps(keys.private_key), keys.private_key.splitlines()[5], PASS]
    shown = redact(" / ".join((*texts, repr(keys), str(keys))))
    for pem in (LOCKED["RSA"], RSA_PEM):
        assert not any(line in shown for line in pem.splitlines() if len(line) > 8 and not line.startswith("-----"))
    assert PASS not in shown
    assert "PRIVATE KEY" not in repr(keys)


@pytest.mark.wire
@pytest.mark.parametrize(("pem", "kind"), [(ED_PEM, ED25519), (RSA_PEM, RSA_KIND)])
async def test_every_call_of_the_bot_is_signed_with_the_private_key(monkeypatch, pem, kind):
    monkeypatch.setenv("BINANCE_API_SECRET", pem)
    async with place() as venue, rewriting(venue, public_key=PUBLIC[kind]) as proxy:
        config = proxy.config()
        report = await examine(config, "testnet", quiet=True, wait_for_bar=False)
        async with connected("testnet", addresses(config, "testnet")) as line:
            gateway = line.gateway
            await gateway.synchronise()
            await gateway.prepare(SYMBOLS, 5)
            session = await gateway.load_session(SYMBOLS, venue="testnet")
            btc = next(i for i in session.instruments if i.symbol == "BTCUSDT")
            bid = (await gateway.quote("BTCUSDT")).bid
            rest = {"qty": btc.qty(0.01), "price": btc.price(float(bid) * 0.98), "time_in_force": TimeInForce.GTC}
            order = PlaceOrder("t-1", "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, **rest)
            placed = await gateway.place(order)
            canceled = await gateway.cancel(CancelOrder("t-1", "BTCUSDT"))
            await gateway.snapshot(SYMBOLS, line.clock.now_ms() - 60_000, income_since_ms=line.clock.now_ms() - 60_000)
            outcomes = await gateway.cancel_all("BTCUSDT")

    assert report.ok, report.failures()
    keys = next(check for check in report.checks if check.name == "keys")
    assert f"signing with {kind}" in keys.text
    assert "old kind" not in keys.text
    assert isinstance(placed, Accepted), placed
    assert isinstance(canceled, Accepted), canceled
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert proxy.refused == []
    assert {"GET", "POST", "DELETE"} <= {call.split()[0] for call in proxy.signed}
    assert {"POST /fapi/v1/order", "DELETE /fapi/v1/order", "POST /fapi/v1/algoOrder"} <= set(proxy.signed)


@pytest.mark.wire
async def test_a_private_key_that_does_not_belong_to_the_api_key_is_named(monkeypatch):
    monkeypatch.setenv("BINANCE_API_SECRET", ECC.generate(curve="ed25519").export_key(format="PEM"))
    async with place() as venue, rewriting(venue, public_key=PUBLIC[ED25519]) as proxy:
        report = await examine(proxy.config(), "testnet", quiet=True, wait_for_bar=False)

    (failure,) = report.failures()
    assert failure.name == "keys"
    assert "the Ed25519 private key does not belong to BINANCE_API_KEY" in failure.hint


@pytest.mark.wire
async def test_hmac_is_called_the_old_kind(monkeypatch):
    monkeypatch.setenv("BINANCE_API_SECRET", SECRET)
    async with place() as venue:
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    keys = next(check for check in report.checks if check.name == "keys")
    assert keys.status == "ok"
    assert "HMAC (the old kind" in keys.text


@pytest.mark.wire
@pytest.mark.slow
async def test_the_bot_runs_with_an_ed25519_key_and_shows_nothing_of_it(tmp_path):
    (tmp_path / "key.pem").write_text(ED_PEM)
    environment = {**os.environ, "BINANCE_PRIVATE_KEY_FILE": str(tmp_path / "key.pem"), "PYTHONPATH": str(ROOT)}
    if os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    async with place(speed=20.0) as venue, rewriting(venue, public_key=PUBLIC[ED25519]) as proxy:
        words = [sys.executable, "-m", "bot", "run", "--venue", "testnet", "--port", "0", "--debug"]
        words += ["--set", "data.history_bars=60"]
        words += ["--set", f"venue.testnet.rest_url={proxy.rest}", "--set", f"venue.testnet.stream_url={proxy.stream}"]
        bot = await asyncio.create_subprocess_exec(
            *words, cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        said = b""
        async with asyncio.timeout(300):
            while b"dashboard:" not in said:
                line = await bot.stderr.readline()
                assert line, said.decode()
                said += line
        await asyncio.sleep(3)  # until it answers signals
        bot.terminate()
        _, rest = await asyncio.wait_for(bot.communicate(), 60)

    assert bot.returncode == 0, (said + rest).decode()[-3000:]
    assert proxy.refused == []
    assert "GET /fapi/v3/positionRisk" in proxy.signed
    assert ED_PEM.splitlines()[1].encode() not in said + rest
