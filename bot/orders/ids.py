"""Client order ids that encode an order's purpose and are identical in every replay.

`rbL-en-0-00k3f9x-01-a1` reads: bot `rb` on the live venue, role `en`, symbol 0 (BTC), trade 00k3f9x (the base-36 number of the
signal bar), first order of that role, first attempt. An id is a lookup key, not an idempotency key: Binance accepts the same id
again once the first order is terminal (venue notes 2.6), so the attempt is incremented and never reused.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from bot.core.errors import InvariantError

BOT: Final = "rb"
ENVIRONMENTS: Final = {"sim": "S", "backtest": "B", "paper": "P", "testnet": "T", "live": "L"}
ROLES: Final = {
    "en": "entry, post-only",
    "io": "entry, immediate or cancel",
    "sl": "sized stop",
    "cs": "catastrophe stop (closePosition)",
    "tp": "target",
    "xx": "market exit",
    "hx": "hedge leg, open",
    "hc": "hedge leg, shrink",
    "gd": "guard of a position that is not ours",
}
FOREIGN: Final = "fx"  # role of a fill that none of our orders made
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PATTERN: Final = re.compile(r"([a-z]{2})([A-Z])-([a-z]{2})-(\d)-([0-9a-z]{7})-(\d{2})-a(\d{1,4})")
_SENDABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,36}")
_WIDTH: Final = 7


@lru_cache(maxsize=64)
def base36(number: int) -> str:
    """Return a number as seven base-36 digits.

    Raises
    ------
    InvariantError
        The number is negative or too large.

    >>> base36(9_942_165)
    '005x3f9'
    """
    if not 0 <= number < 36**_WIDTH:
        raise InvariantError(f"trade sequence {number} does not fit into {_WIDTH} base-36 digits")
    digits = []
    for _ in range(_WIDTH):
        number, rest = divmod(number, 36)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))


def _written(environment: str, role: str, symbol_index: int, sequence: int, leg: int, attempt: int) -> str:
    return f"{BOT}{environment}-{role}-{symbol_index}-{base36(sequence)}-{leg:02d}-a{attempt}"


@dataclass(frozen=True, slots=True)
class ClientId:
    """The parts of a client order id."""

    environment: str  # one letter, see ENVIRONMENTS
    role: str
    symbol_index: int
    sequence: int
    leg: int
    attempt: int

    def __str__(self) -> str:
        return _written(self.environment, self.role, self.symbol_index, self.sequence, self.leg, self.attempt)


@lru_cache(maxsize=512)  # called for every message of an order
def parse(client_id: str) -> ClientId | None:
    """Return the parts of an id of ours, or None for a foreign one.

    >>> parse("rbL-en-0-005x3f9-01-a1")
    ClientId(environment='L', role='en', symbol_index=0, sequence=9942165, leg=1, attempt=1)
    >>> parse("web_1x2y")
    """
    match = _PATTERN.fullmatch(client_id)
    if match is None or match[1] != BOT or match[3] not in ROLES:
        return None
    return ClientId(match[2], match[3], int(match[4]), int(match[5], 36), int(match[6]), int(match[7]))


def forced(client_id: str) -> str:
    """Return how the exchange itself closed a position: "liquidation", "adl", or "" for any other order.

    >>> forced("autoclose-1700000000000"), forced("adl_autoclose"), forced("web_1")
    ('liquidation', 'adl', '')
    """
    return "liquidation" if client_id.startswith("autoclose-") else "adl" if client_id == "adl_autoclose" else ""


def is_sendable(client_id: str) -> bool:
    """Return whether a request can carry this id: a foreign one may contain characters that do not survive signing.

    >>> is_sendable("web_1x2y"), is_sendable("a/b:c")
    (True, False)
    """
    return _SENDABLE.fullmatch(client_id) is not None


def role_of(client_id: str) -> str:
    """Return the role in an id, or `FOREIGN` for a foreign one."""
    parts = parse(client_id)
    return FOREIGN if parts is None else parts.role


@dataclass(slots=True)
class IdMaker:
    """Issues the ids of one trade; attempts count up per role, symbol and leg."""

    environment: str
    sequence: int
    attempts: dict[str, int] = field(default_factory=dict)

    def next(self, role: str, symbol_index: int, *, leg: int = 1) -> str:
        """Return the id of the next attempt.

        Raises
        ------
        InvariantError
            The role is unknown.
        """
        if role not in ROLES:
            raise InvariantError(f"order role {role!r} is not known")
        key = f"{role}{symbol_index}{leg:02d}"
        attempt = self.attempts.get(key, 0) + 1
        self.attempts[key] = attempt
        return _written(self.environment, role, symbol_index, self.sequence, leg, attempt)
