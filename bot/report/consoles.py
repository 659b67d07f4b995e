"""Factory of all consoles: control characters in tables and sentences are escaped, never executed."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bot.core.printable import visible

PIPED_WIDTH = 160


class SafeConsole(Console):
    """A console that escapes control characters in text; its own colours and cursor codes are not affected."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments with escaped text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible(text), style)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Convert a string to text; escape it first, so that its width is measured correctly."""
        return super().render_str(visible(text), **settings)


def console(**settings: Any) -> Console:
    """Return a console; `settings` are those of rich."""
    return SafeConsole(**settings)


def wide_console() -> Console:
    """Return a console that is wide enough for tables when its output is piped."""
    wide = console()
    return wide if wide.is_terminal else console(width=PIPED_WIDTH)
