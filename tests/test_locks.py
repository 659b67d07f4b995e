"""The locks: whole, with a hash for every file, and naming nothing but packages."""

import importlib.metadata
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tools.locks import LOCKS, entries

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in LOCKS}


def pins(name: str) -> dict[str, Requirement]:
    found = [Requirement(entry.splitlines()[0].rstrip(" \\")) for entry in entries(TEXTS[name])]
    return {canonicalize_name(pin.name): pin for pin in found}


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_is_exact_and_has_hashes_and_no_lock_names_an_address(name):
    assert entries(TEXTS[name])
    for entry in entries(TEXTS[name]):
        first, *hashes = entry.splitlines()
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)? \\", first), first
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), first
    rest = [line for line in TEXTS[name].splitlines() if line not in "\n".join(entries(TEXTS[name])).splitlines()]
    assert rest == ([f"-r {list(LOCKS)[list(LOCKS).index(name) - 1]}"] if LOCKS[name] else [])
    assert "://" not in TEXTS[name]


def test_no_package_is_pinned_twice():
    names = [name for lock in LOCKS for name in pins(lock)]

    assert len(names) == len(set(names))


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    asked = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": groups["dev"],
        "requirements-bench.lock": groups["bench"],
    }

    for lock, texts in asked.items():
        for wanted in map(Requirement, texts):
            pin = pins(lock).get(canonicalize_name(wanted.name))
            assert pin is not None, f"{wanted.name} is not in {lock}: make locks"
            assert wanted.specifier.contains(next(iter(pin.specifier)).version), f"{wanted} and {pin}: make locks"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_what_a_locked_package_needs_is_locked_too(lock):
    locked = pins("requirements.lock") | (pins(lock) if lock != "requirements.lock" else {})

    for name, pin in pins(lock).items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        needs = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        for need in needs:
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in locked, f"{name} needs {need.name}"
