"""Random numbers without a sequence: each one in [0, 1) depends only on the seed and on what it is drawn for.

An additional draw never shifts another one, so runs stay comparable when something is added.
"""

from hashlib import blake2b


class Draws:
    """Seeded draws by name.

    >>> draws = Draws(7)
    >>> draws.uniform("latency", 1) == draws.uniform("latency", 1) != draws.uniform("latency", 2)
    True
    """

    __slots__ = ("_seed",)

    def __init__(self, seed: int) -> None:
        self._seed = f"{seed}|"

    def uniform(self, *what: object) -> float:
        """Return the number in [0, 1) that belongs to the seed and `what`."""
        text = self._seed + "|".join(map(str, what))
        return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / (1 << 48)
