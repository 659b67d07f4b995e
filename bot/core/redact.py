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
_LISTEN_PATH: Final = re.compile(r"(/ws/|/stream/)([A-Za-z0-9]{40,})")


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
    return _LISTEN_PATH.sub(rf"\1{STRUCK}", _SIGNED.sub(rf"\1\2{STRUCK}", text))


def is_hidden(word: str) -> bool:
    """Whether a word has been registered."""
    return word in _WORDS
