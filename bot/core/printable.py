r"""Escape untrusted text for a terminal: control characters are shown as escapes instead of being interpreted.

A column name, a file name or a message of the exchange may contain escape sequences that recolour, move, hide or type
text, and marks that reverse the reading direction. `visible` is the last step of everything that is printed or logged.
Line feeds and tabs are kept; a carriage return is not, because it overwrites the line.
"""

from typing import Final

_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNSEEN: Final = (0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080))
_CONTROLS: Final = {n: f"\\x{n:02x}" for n in (*range(0x20), *range(0x7F, 0xA0)) if chr(n) not in "\n\t"}
# Lone surrogates represent undecodable bytes, as in a file name; they cannot be encoded for a terminal.
_HALVES: Final = {n: f"\\x{n - 0xDC00:02x}" if 0xDC80 <= n <= 0xDCFF else f"\\u{n:04x}" for n in range(0xD800, 0xE000)}
_ESCAPES: Final = _CONTROLS | _HALVES | {n: f"\\u{n:04x}" if n < 0x10000 else f"\\U{n:08x}" for n in (*_BIDI, *_UNSEEN)}


def visible(text: str) -> str:
    r"""Return `text` with everything that a terminal would interpret shown as an escape.

    >>> print(visible("close\x1b[2J\x9b31m\u202e"))
    close\x1b[2J\x9b31m\u202e
    """
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def visible_json(text: str) -> str:
    r"""Return ASCII JSON text with DEL escaped, the one control character that JSON leaves unescaped.

    >>> print(visible_json('"a\x7fb"'))
    "a\u007fb"
    """
    return text.replace("\x7f", "\\u007f")
