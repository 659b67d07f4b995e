"""The pure engine: events in, intents and records out; back-test, paper and live run the same `Engine.handle`."""

from bot.engine.machine import Engine, FeatureSource, Output
from bot.engine.market_state import BASE_MS

__all__ = ["BASE_MS", "Engine", "FeatureSource", "Output"]
