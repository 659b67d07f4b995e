"""The pure heart: events in, intents and records out; back-test, paper and live run the same `Engine.handle`."""

from bot.engine.known import BASE_MS
from bot.engine.machine import Engine, FeatureSource, Output

__all__ = ["BASE_MS", "Engine", "FeatureSource", "Output"]
