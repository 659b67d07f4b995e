"""Progress of long tasks on standard error: a bar on a terminal, nothing when piped or quiet."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bot.core.printable import visible


@contextmanager
def progress(label: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; it yields a function to call with the number of steps done."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bot.report.consoles import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


def say(text: str, *, quiet: bool = False) -> None:
    """Print one line of progress to standard error and flush it."""
    if not quiet:
        print(visible(text), file=sys.stderr, flush=True)


class ProgressBar:
    """A progress bar whose total is set once it is known."""

    def __init__(self) -> None:
        self.advance: Callable[[int], None] = lambda steps: None
        self.planned: Callable[[int], None] = lambda total: None


@contextmanager
def progress_of(label: str, *, quiet: bool = False) -> Iterator[ProgressBar]:
    """Show a bar while the block runs, for tasks whose total is not known at the start."""
    bar = ProgressBar()
    if quiet or not sys.stderr.isatty():
        yield bar
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from bot.report.consoles import console

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None)
        bar.advance = lambda steps: shown.advance(task, steps)
        bar.planned = lambda total: shown.update(task, total=total)
        yield bar
