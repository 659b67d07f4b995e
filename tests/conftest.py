"""Fixtures shared by all tests, and the profiles of hypothesis."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bot.core.folders import state_place

# Compiled once for all tests and the processes that they start, whatever state folder a test gives them.
os.environ.setdefault("BOT_KERNELS", str(state_place() / "kernels"))

# The first example compiles kernels: a deadline would call that flaky.
common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", max_examples=50, **common)
settings.register_profile("ci", max_examples=200, derandomize=True, **common)
settings.register_profile("nightly", max_examples=5000, print_blob=True, **common)
settings.register_profile("coverage", max_examples=10, derandomize=True, **common)  # kernels as plain Python: slow
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("BOT_STATE", str(ROOT / ".state"))  # locks of made-up accounts do not belong in a person's home


@pytest.fixture(scope="session", autouse=True)
def data_of_tests(tmp_path_factory):
    """A data folder of the tests' own: the checkout's may hold a person's sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot-data")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real klines and oracles beside the repository; skipped when absent, a failure under CI."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is absent: the reference tests cannot run")
        pytest.skip(f"{path} is absent")
    return path
