"""Count what is in flight between the exchange and the bot.

A stepped exchange clock may advance only when nothing is in flight: no frame written that the bot has not dequeued, no
pending request, no unhandled event. The start of each calls `begin`, its completion `end`, often on the other side of
a socket. With a real exchange the count is not used.
"""


class Activity:
    """A counter of items in flight; `quiet` when there are none."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way = 0

    def begin(self, n: int = 1) -> None:
        """Count `n` items as in flight."""
        self.under_way += n

    def end(self, n: int = 1) -> None:
        """Count `n` items as complete."""
        self.under_way -= n

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight."""
        return self.under_way <= 0
