"""The user's state folder: one place by system, for this user alone."""

import stat
import sys
from pathlib import Path

import pytest

from bot.market.paths import state_folder


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("BOT_STATE", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "environment", "place"),
    [
        ("linux", {}, ".local/state/bot"),
        ("linux", {"XDG_STATE_HOME": "xdg"}, "xdg/bot"),
        ("darwin", {}, "Library/Application Support/bot"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/bot"),
        ("win32", {}, "AppData/Local/bot"),
        ("linux", {"BOT_STATE": "mine", "XDG_STATE_HOME": "xdg"}, "mine"),
    ],
)
def test_each_system_has_its_place_and_bot_state_overrides_it(
    nothing_named: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    environment: dict[str, str],
    place: str,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(nothing_named / value))

    assert state_folder() == nothing_named / place


def test_the_folder_is_for_this_user_alone_even_if_it_stood_open_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_one = tmp_path / "state"
    open_one.mkdir(mode=0o755)
    monkeypatch.setenv("BOT_STATE", str(open_one))

    assert stat.S_IMODE(state_folder().stat().st_mode) == 0o700
