"""Counts what is under way between the exchange and the bot.

A stepped exchange clock may move only when nothing is: no frame written that the bot has not taken off its queue, no
request on its way, no event unhandled. Whoever starts such a thing calls `begin`, whoever ends it `end`; the two are often
on different sides of a socket. Towards a real exchange nobody looks at the number.
"""


class Activity:
    """A counter of things under way; `quiet` when there are none."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way = 0

    def begin(self, n: int = 1) -> None:
        """Note that `n` things have begun."""
        self.under_way += n

    def end(self, n: int = 1) -> None:
        """Note that `n` things have ended."""
        self.under_way -= n

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way."""
        return self.under_way <= 0
