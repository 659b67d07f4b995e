"""The commands, one module a subject; the work is done in the rooms beneath."""

from bot.cli.base import cli
from bot.cli.main import main

__all__ = ["cli", "main"]
