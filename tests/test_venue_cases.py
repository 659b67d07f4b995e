"""The list of venue cases and the cases themselves are the same, and so are the tables of faults and of switches."""

import ast
import re
from dataclasses import fields

from bot.sim.fault_kinds import KINDS
from bot.sim.quirks import Quirks
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs" / "venue-cases.md").read_text()


def cases() -> dict[str, str]:
    """Number and name, in words, of every numbered test."""
    files = [*(ROOT / "tests").glob("test_venue_*.py"), ROOT / "tests" / "test_wire_loopback.py"]
    tests = [node.name for path in files for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.AsyncFunctionDef)]  # fmt: skip
    found = [match for name in tests if (match := re.fullmatch(r"test_vc(\d+)_(\w+)", name))]
    named = [(f"VC-{int(match[1]):02}", match[2].replace("_", " ")) for match in found]
    assert len(named) == len(dict(named)), "a number is used twice"
    return dict(named)


def rows(heading: str) -> dict[str, str]:
    """First and second column of the table under a heading."""
    part = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `?([^|`]+?)`? \| ([^|]+?) \|", part, re.MULTILINE)
    return {name: text for name, text in found if name not in ("case", "fault", "switch") and "---" not in name}


def test_the_document_lists_every_venue_case_by_its_name():
    told = rows("Cases")

    assert told == cases()
    assert list(told) == [f"VC-{number:02}" for number in range(1, len(told) + 1)]
    assert len(told) >= 100


def test_the_document_explains_every_fault_and_every_switch():
    assert rows("Faults").keys() == {*KINDS, "everyday"}
    assert rows("Switches").keys() == {field.name for field in fields(Quirks)}
