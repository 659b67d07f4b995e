"""Authentication: the API key, the signature in any of Binance's three kinds, and the timestamp.

A key is registered either with a secret (HMAC-SHA256, hexadecimal; deprecated by Binance) or with a public key in PEM:
Ed25519, or RSA with PKCS#1 v1.5 and SHA-256; those two signatures are base64, percent-encoded in query and form and
plain in the JSON of the WebSocket API. The signed text is the raw query followed by the raw body, without the signature
itself (Binance's totalParams). A timestamp is valid within recvWindow, in wall time, of the exchange's clock or of the
machine's, because a replay's clock differs from the machine's.
"""

import binascii
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Final

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa, pkcs1_15

from bot.core.errors import ConfigError
from bot.sim.calls import Call
from bot.sim.errors import Refused
from bot.sim.filters import WHOLE

MAX_WINDOW_MS: Final = 60_000
AHEAD_MS: Final = 1_000
KEY_FORMAT: Final = re.compile(r"[!-~]{1,256}")
Verify = Callable[[str, str], bool]  # (signature, signed text) -> valid


class Guard:
    """Verifies the one API key and its signatures.

    Parameters
    ----------
    key, secret : str
        The API key and, for HMAC, its secret.
    public_key : str
        PEM of an Ed25519 or RSA public key; if given, signatures are verified only with it.

    Raises
    ------
    ConfigError
        The public key cannot be read or is of another kind.
    """

    def __init__(self, key: str, secret: str, public_key: str = "") -> None:
        self._key = key.encode()
        self._verify = _by_public_key(public_key) if public_key else _by_secret(secret)

    def check_key(self, call: Call) -> None:
        """Reject a request without the right key.

        Raises
        ------
        Refused
            -2014 if the key is malformed, -2015 if it is another one.
        """
        if not KEY_FORMAT.fullmatch(call.key):
            raise Refused(-2014)
        if not hmac.compare_digest(call.key.encode(), self._key):
            raise Refused(-2015)

    def check_signature(self, call: Call, *, replay_ms: int, wall_ms: int, speed: float) -> None:
        """Reject a request with an invalid signature or timestamp.

        Parameters
        ----------
        replay_ms, wall_ms
            The exchange's and the machine's clock, UTC epoch ms.
        speed
            Replay seconds per second of wall time.

        Raises
        ------
        Refused
            -1102 or -1130 for a missing or malformed parameter, -1021 for a stale or future timestamp, -1022 for a
            wrong signature.
        """
        for name in ("timestamp", "signature"):
            if not call.params.get(name):
                raise Refused(-1102, name)
        window, stamp = call.params.get("recvWindow", "5000"), call.params["timestamp"]
        if not WHOLE.fullmatch(stamp):
            raise Refused(-1130, "timestamp")
        if not WHOLE.fullmatch(window) or not 0 < int(window) <= MAX_WINDOW_MS:
            raise Refused(-1130, "recvWindow")
        if not (
            _fresh(int(stamp), wall_ms, int(window), AHEAD_MS)
            or _fresh(int(stamp), replay_ms, round(int(window) * speed), round(AHEAD_MS * speed))
        ):
            raise Refused(-1021)
        total = call.signed
        if total is None:
            total = _without_signature(call.query) + _without_signature(call.body)
        if not self._verify(call.params["signature"], total):
            raise Refused(-1022)


def _by_secret(secret: str) -> Verify:
    key = secret.encode()

    def verify(signature: str, total: str) -> bool:
        expected = hmac.new(key, total.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.lower().encode())

    return verify


def _by_public_key(pem: str) -> Verify:
    text = pem.strip().lstrip("\ufeff")
    key: ECC.EccKey | RSA.RsaKey
    try:
        key = RSA.import_key(text)
    except (ValueError, IndexError, TypeError):
        try:
            key = ECC.import_key(text)
        except (ValueError, IndexError, TypeError):
            raise ConfigError(
                "the exchange's public key cannot be read: it must be a PEM (openssl pkey -in FILE -pubout)"
            ) from None
    if key.has_private():
        raise ConfigError("the exchange takes a public key, not a private one: openssl pkey -in FILE -pubout")
    if isinstance(key, RSA.RsaKey):
        return _by_rsa(key)
    if key.curve != "Ed25519":
        raise ConfigError(f"the exchange's public key must be Ed25519 or RSA, not {key.curve}")
    return _by_ed25519(key)


def _by_ed25519(key: ECC.EccKey) -> Verify:
    verifier = eddsa.new(key, "rfc8032")

    def verify(signature: str, total: str) -> bool:
        try:
            verifier.verify(total.encode(), b64decode(signature, validate=True))
        except (ValueError, binascii.Error):
            return False
        return True

    return verify


def _by_rsa(key: RSA.RsaKey) -> Verify:
    verifier = pkcs1_15.new(key)

    def verify(signature: str, total: str) -> bool:
        try:
            verifier.verify(SHA256.new(total.encode()), b64decode(signature, validate=True))
        except (ValueError, binascii.Error):
            return False
        return True

    return verify


def _fresh(stamp: int, now: int, window: int, ahead: int) -> bool:
    return now - window <= stamp <= now + ahead


def _without_signature(text: str) -> str:
    """Return the raw text that was signed.

    >>> _without_signature("a=1&signature=ab&b=2")
    'a=1&b=2'
    """
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))
