"""The one place where consoles are made: whatever stands in a table or a sentence, no control character of it is obeyed."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bot.core.printable import visible

PIPED_WIDTH = 160


class SafeConsole(Console):
    """A console that shows control characters of the text as escapes; its own colours and movements are not text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments, their text made visible."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible(text), style)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Make text of a string, with its escapes before its width is measured."""
        return super().render_str(visible(text), **settings)


def console(**settings: Any) -> Console:
    """Return a console with rich's settings."""
    return SafeConsole(**settings)


def wide_console() -> Console:
    """Return a console that is wide enough for tables when its output is piped."""
    wide = console()
    return wide if wide.is_terminal else console(width=PIPED_WIDTH)
