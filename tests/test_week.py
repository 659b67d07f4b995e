"""A week of real klines of three symbols through REST and websockets, twice: the same trades to the cent."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.nightly, pytest.mark.reference, pytest.mark.wire]


def week(shared, tmp_path, *more):
    arguments = ["run", "--venue", "sim", "--klines", str(shared / "klines" / "spot"), "--from", "2023-01-09"]
    arguments += ["--to", "2023-01-16", "--speed", "max", "--once", "--json", "--no-dashboard", *more]
    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT,
        env={**os.environ, "BOT_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    for name in ("decision_ms", "decision_ms_p99"):  # the one thing that this machine's clock measures
        assert report["summary"].pop(name) > 0
    report["summary"]["claims"].pop("decision_ms")
    return report


@pytest.mark.timeout(3_600)
def test_the_week_is_the_same_twice(shared, tmp_path):
    first = week(shared, tmp_path / "first")
    second = week(shared, tmp_path / "second")

    assert first == second
    assert first["summary"]["bars"] == 3_360
    assert first["summary"]["trades"] >= 5
    assert first["summary"]["naked_ms_max"] <= 1_500
    assert first["summary"]["signals"] == first["summary"]["batch_signals"]


@pytest.mark.timeout(3_600)
def test_the_week_runs_with_the_headline_profile(shared, tmp_path):
    report = week(shared, tmp_path, "--profile", "headline")

    assert report["summary"]["bars"] == 3_360
