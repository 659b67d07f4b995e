r"""Text of foreign files on a terminal: what a terminal would obey is shown as an escape instead of being obeyed.

A column name, a file name or a message of the exchange may hold escape sequences that recolour, move, hide or type text,
and marks that turn the direction of reading round. `visible` is the last step of everything that is printed or logged.
Line ends and tabs stay; a carriage return does not, because it writes over what stands in the line.
"""

from typing import Final

_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNSEEN: Final = (0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080))
_CONTROLS: Final = {n: f"\\x{n:02x}" for n in (*range(0x20), *range(0x7F, 0xA0)) if chr(n) not in "\n\t"}
# Halves of a pair stand for bytes that are no text, as in a file name; no terminal could be sent them.
_HALVES: Final = {n: f"\\x{n - 0xDC00:02x}" if 0xDC80 <= n <= 0xDCFF else f"\\u{n:04x}" for n in range(0xD800, 0xE000)}
_ESCAPES: Final = _CONTROLS | _HALVES | {n: f"\\u{n:04x}" if n < 0x10000 else f"\\U{n:08x}" for n in (*_BIDI, *_UNSEEN)}


def visible(text: str) -> str:
    r"""Return `text` with everything that a terminal would obey as an escape.

    >>> print(visible("close\x1b[2J\x9b31m\u202e"))
    close\x1b[2J\x9b31m\u202e
    """
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def visible_json(text: str) -> str:
    r"""Return JSON text made of ASCII with the one control character that JSON leaves as it is as an escape.

    >>> print(visible_json('"a\x7fb"'))
    "a\u007fb"
    """
    return text.replace("\x7f", "\\u007f")
