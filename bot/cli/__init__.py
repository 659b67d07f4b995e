"""The operator's commands: one module a subject, the work itself stands in the rooms below."""

from bot.cli.base import cli
from bot.cli.main import main

__all__ = ["cli", "main"]
