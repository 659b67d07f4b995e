"""What lies: replies and frames that are changed on their way from the exchange to the bot.

The exchange itself stays honest: what it holds is what the judge looks at. A lie sees the bytes as they leave (`Liar`) and
gives others, or answers in place of the exchange, so that nothing is carried out. A proxy between two processes and the door
of an embedded exchange use the same liar.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from bot.sim.server import Exchange

KEPT: Final = 400  # honest answers to one question


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    params: Mapping[str, str]

    @property
    def name(self) -> str:
        """The endpoint: the last part of its path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Answer:
    """A reply as it goes over the wire."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"

    @property
    def data(self) -> Any:
        """The JSON."""
        return orjson.loads(self.body)

    def of(self, data: Any) -> "Answer":
        """Return the reply with another JSON."""
        return replace(self, body=orjson.dumps(data))


@dataclass(frozen=True)
class Scene:
    """What a lie may know: the exchange as it is, and what it answered before."""

    exchange: "Exchange"
    asked: Asked | None = None
    earlier: tuple[Answer, ...] = ()  # honest answers to the same question, oldest first

    @property
    def now_ms(self) -> int:
        """The exchange's time."""
        return self.exchange.clock.now_ms()


Spoil = Callable[[Answer, Scene], Answer]


@dataclass(frozen=True)
class ReplyLie:
    """One endpoint's replies are false.

    Parameters
    ----------
    endpoint
        Last part of the path, such as `positionRisk`.
    spoil
        Makes the false reply of the true one.
    ms
        How long it lasts from the first false reply on.
    symbol
        Only replies to questions about it; "" for all.
    instead
        The exchange does not get the request: nothing is carried out.
    """

    endpoint: str
    spoil: Spoil
    method: str = "GET"
    ms: int = 6_000
    symbol: str = ""
    role: str = ""  # of the order that is asked after or written, as in its client id
    instead: bool = False
    count: int = 0  # after so many false replies it is over; 0: only `ms` counts

    def fits(self, asked: Asked) -> bool:
        """Whether it lies about this request."""
        if asked.method != self.method or asked.name != self.endpoint:
            return False
        if self.symbol and asked.params.get("symbol") != self.symbol:
            return False
        if not self.role:
            return True
        ids = [asked.params.get(n, "") for n in ("newClientOrderId", "origClientOrderId", "clientAlgoId")]
        return any(f"-{self.role}-" in client_id for client_id in ids)


@dataclass(frozen=True)
class FrameLie:
    """Frames of one kind are changed, held back or repeated.

    Parameters
    ----------
    event
        The frame's `e`.
    change
        Makes the frames that arrive of a true one, as payloads without the wrapper of combined streams; what is already
        bytes goes as it is.
    """

    event: str
    change: Callable[[dict[str, Any], Scene], list[Any]]
    ms: int = 6_000
    symbol: str = ""
    count: int = 0


@dataclass(frozen=True)
class Phantom:
    """Frames that the exchange never sent, pushed once.

    Parameters
    ----------
    feed
        market, public or private.
    frames
        Makes their texts.
    every_ms, times
        How often they are pushed.
    """

    feed: str
    frames: Callable[[Scene], list[bytes]]
    every_ms: int = 1_000
    times: int = 1


Lie = ReplyLie | FrameLie | Phantom


class Liar:
    """Changes what passes while its lies are on.

    Parameters
    ----------
    lies
        All of a case; nothing is changed before `begin`.
    """

    def __init__(self, exchange: "Exchange", lies: tuple[Lie, ...] = ()) -> None:
        self._x = exchange
        self._later = lies
        self._lies: list[Lie] = []
        self.told: list[int] = []  # how often each lied
        self._since: list[int | None] = []
        self._earlier: dict[tuple[str, str, str], list[Answer]] = {}

    def begin(self) -> None:
        """Switch all lies of the case on."""
        for lie in self._later:
            self.add(lie)

    def add(self, lie: Lie) -> None:
        """Switch a lie on."""
        n, now = len(self._lies), self._x.clock.now_ms()
        self._lies.append(lie)
        self.told.append(0)
        self._since.append(None)
        for turn in range(lie.times if isinstance(lie, Phantom) else 0):
            self._x.clock.at(now + turn * lie.every_ms, self._push(n, lie), name="phantom")

    def forget(self) -> None:
        """Switch all lies off."""
        self._lies, self.told, self._since = [], [], []

    def _ended(self, n: int, now: int) -> bool:
        lie, since = self._lies[n], self._since[n]
        if isinstance(lie, Phantom):
            return self.told[n] >= lie.times
        if lie.count and self.told[n] >= lie.count:
            return True
        return since is not None and now - since >= lie.ms

    def _acts(self, n: int) -> bool:
        return not self._ended(n, self._x.clock.now_ms())

    def _note(self, n: int) -> None:
        self.told[n] += 1
        if self._since[n] is None:
            self._since[n] = self._x.clock.now_ms()

    # -- replies ----------------------------------------------------------------------------------------------------

    def instead(self, asked: Asked) -> Answer | None:
        """Return an answer that stands in the exchange's place, None if it is asked."""
        for n, lie in enumerate(self._lies):
            if isinstance(lie, ReplyLie) and lie.instead and lie.fits(asked) and self._acts(n):
                self._note(n)
                return lie.spoil(Answer(b"{}"), Scene(self._x, asked))
        return None

    def reply(self, asked: Asked, answer: Answer) -> Answer:
        """Return what arrives of a reply."""
        earlier = self._earlier.setdefault((asked.method, asked.name, asked.params.get("symbol", "")), [])
        scene = Scene(self._x, asked, tuple(earlier))
        for n, lie in enumerate(self._lies):
            if isinstance(lie, ReplyLie) and not lie.instead and lie.fits(asked) and self._acts(n):
                self._note(n)
                return lie.spoil(answer, scene)
        if asked.method == "GET":
            earlier.append(answer)
            del earlier[:-KEPT]
        return answer

    # -- frames -----------------------------------------------------------------------------------------------------

    def frames(self, message: bytes) -> list[bytes]:
        """Return what arrives of a frame."""
        for n, lie in enumerate(self._lies):
            if not isinstance(lie, FrameLie) or not self._acts(n) or lie.event.encode() not in message:
                continue
            whole = orjson.loads(message)
            payload = whole.get("data", whole)
            if payload.get("e") != lie.event or (lie.symbol and lie.symbol.encode() not in message):
                continue
            self._note(n)
            made = lie.change(payload, Scene(self._x))
            return [
                m if isinstance(m, bytes) else orjson.dumps({**whole, "data": m} if "data" in whole else m)
                for m in made
            ]
        return [message]

    def _push(self, n: int, lie: Phantom) -> Callable[[], None]:
        def push() -> None:
            if n >= len(self._lies) or self._lies[n] is not lie:
                return  # switched off
            self._note(n)
            frames = lie.frames(Scene(self._x))
            for socket in [s for s in self._x.hub.sockets if s.category == lie.feed]:
                self._x.hub._write(socket, frames)

        return push
