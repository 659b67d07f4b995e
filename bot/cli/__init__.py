"""The commands, one module per subject; other packages do the work."""

from bot.cli.base import cli
from bot.cli.main import main

__all__ = ["cli", "main"]
