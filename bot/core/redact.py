"""What must never be shown: keys, secrets, tokens and signed addresses are struck out of any text before it leaves.

The words to strike are registered when they are read (`hide`); besides them everything that looks like a signature, a listen
key or an API key inside an address or a header goes. `redact` is the last step of whatever prints, logs, stores or sends text
that was not written by us: exceptions of libraries above all, whose texts hold the addresses they were made from.
"""

import re
from typing import Final
from urllib.parse import quote, unquote

STRUCK: Final = "***"
SHORTEST: Final = 6  # a shorter word would strike out half of every sentence
_WORDS: set[str] = set()
_SIGNED: Final = re.compile(
    r"(?i)(signature|listen_?key|api_?key|api_?secret|secret|token|x-mbx-apikey|x-token)"
    r"(['\"]?\s*(?:=|:|%3D)\s*b?['\"]?)([A-Za-z0-9_%+/.\-]{6,})"
)
_NAMES: Final = ("signature", "key", "secret", "token")  # one of them stands in each name of the pattern above
_LISTEN_PATH: Final = re.compile(r"(/ws/|/stream/)([A-Za-z0-9]{40,})")
_SCHEME: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://")
_ADDRESS: Final = re.compile(r"[^\s'\"<>|\\]+")
_PARAMETER: Final = re.compile(r"(?i)([?&;][^=&;#]*(?:pass|pwd|token|secret|key|auth|sig|code)[^=&;#]*=)([^&;#]+)")


def hide(*words: str) -> None:
    """Register words that must never be shown, in the forms that addresses write them too."""
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
    if any(word in lower for word in _NAMES):  # most lines of a log hold none, and the pattern is slow to find that out
        text = _SIGNED.sub(rf"\1\2{STRUCK}", text)
    return _LISTEN_PATH.sub(rf"\1{STRUCK}", text)


def redact_addresses(text: str) -> str:
    """Return `text` with the passwords of its addresses struck out: those before an @, and what queries call a secret.

    A user without a password may be a token (`https://TOKEN@host`), so it goes too, except a database's.

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
    """Return what follows an address's scheme without secrets."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    name, colon, port = authority.partition(":")
    # A password may hold a slash that should have been quoted: then what looks like a port is no number.
    odd = colon and "@" not in authority and not port.isdigit() and not name.startswith("[") and "@" in rest
    users, at, tail = (rest if odd else authority).rpartition("@")
    if at:
        user, colon, _ = users.partition(":")
        tail = tail if odd else tail + rest[len(authority) :]
        rest = f"{user}:{STRUCK}@{tail}" if colon else f"{user if 'sql' in scheme.lower() else STRUCK}@{tail}"
    return _PARAMETER.sub(rf"\1{STRUCK}", rest)


def is_hidden(word: str) -> bool:
    """Whether a word has been registered."""
    return word in _WORDS
