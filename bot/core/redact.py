"""Redact keys, secrets, tokens and signed URLs from any text before it is output.

Secrets are registered when they are read (`hide`); also redacted is everything that looks like a signature, a listen key
or an API key in a URL or a header. `redact` is the last step of whatever prints, logs, stores or sends text that the bot
did not write: above all library exceptions, whose messages include the requested URL.
"""

import re
from typing import Final
from urllib.parse import quote, unquote

STRUCK: Final = "***"
SHORTEST: Final = 6  # a shorter word would redact parts of ordinary text
_WORDS: set[str] = set()
_SIGNED: Final = re.compile(
    r"(?i)(signature|listen_?key|api_?key|api_?secret|secret|token|x-mbx-apikey|x-token)"
    r"(['\"]?\s*(?:=|:|%3D)\s*b?['\"]?)([A-Za-z0-9_%+/.\-]{6,})"
)
_NAMES: Final = ("signature", "key", "secret", "token")  # each name in the pattern above contains one of them
_LISTEN_PATH: Final = re.compile(r"(/ws/|/stream/)([A-Za-z0-9]{40,})")
_SCHEME: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://")
_ADDRESS: Final = re.compile(r"[^\s'\"<>|\\]+")
_PARAMETER: Final = re.compile(r"(?i)([?&;][^=&;#]*(?:pass|pwd|token|secret|key|auth|sig|code)[^=&;#]*=)([^&;#]+)")


def hide(*words: str) -> None:
    """Register secrets that must never be shown, including their URL-quoted and unquoted forms."""
    for word in words:
        for form in (word, quote(word, safe=""), unquote(word)):
            if len(form) >= SHORTEST:
                _WORDS.add(form)


def redact(text: str) -> str:
    """Return `text` without registered words, signatures, listen keys and API keys.

    >>> redact("GET https://h/fapi/v1/order?symbol=X&signature=0a1b2c3d4e5f timed out")
    'GET https://h/fapi/v1/order?symbol=X&signature=*** timed out'
    """
    for word in sorted(_WORDS, key=len, reverse=True):
        if word in text:
            text = text.replace(word, STRUCK)
    text = redact_addresses(text)
    lower = text.lower()
    if any(word in lower for word in _NAMES):  # most log lines contain none, and the pattern is slow to fail
        text = _SIGNED.sub(rf"\1\2{STRUCK}", text)
    return _LISTEN_PATH.sub(rf"\1{STRUCK}", text)


def redact_addresses(text: str) -> str:
    """Return `text` with the secrets in its URLs redacted: passwords before an @, and secret query parameters.

    A user without a password may be a token (`https://TOKEN@host`), so it is redacted too, except in a database URL.

    >>> redact_addresses("postgresql://bot:word@db/studies and https://h/x?token=12&page=3")
    'postgresql://bot:***@db/studies and https://h/x?token=***&page=3'
    """
    if "://" not in text:
        return text
    parts: list[str] = []
    at = 0
    while (scheme := _SCHEME.search(text, at)) is not None:
        address = _ADDRESS.match(text, scheme.end())
        end = address.end() if address is not None else scheme.end()
        parts += (text[at : scheme.end()], _struck(scheme[0], text[scheme.end() : end]))
        at = end
    return "".join(parts) + text[at:]


def _struck(scheme: str, rest: str) -> str:
    """Return the part of a URL after its scheme without secrets."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    name, colon, port = authority.partition(":")
    # A password may contain an unquoted slash: then the apparent port is not a number.
    odd = colon and "@" not in authority and not port.isdigit() and not name.startswith("[") and "@" in rest
    users, at, tail = (rest if odd else authority).rpartition("@")
    if at:
        user, colon, _ = users.partition(":")
        tail = tail if odd else tail + rest[len(authority) :]
        rest = f"{user}:{STRUCK}@{tail}" if colon else f"{user if 'sql' in scheme.lower() else STRUCK}@{tail}"
    return _PARAMETER.sub(rf"\1{STRUCK}", rest)


def is_hidden(word: str) -> bool:
    """Return whether a secret has been registered."""
    return word in _WORDS
