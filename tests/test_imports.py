"""The import graph of the package, imports for type checking included: nothing imports in a circle."""

import ast
from pathlib import Path

from tests.conftest import ROOT
from tools.rooms import PAGE, drawn

# Circles that are left, by a module of each: the exchange's parts and the exchange know each other.
LEFT = {"bot.sim.venue", "bot.sim.server"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """Return the modules that each module of the package imports, anywhere in it."""
    paths = {name_of(path): path for path in (ROOT / "bot").rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in paths else node.module for name in inner}
        graph[module] = (found & paths.keys()) - {module}
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return what a module imports, directly or not; itself only if it is in a circle."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return seen


def test_no_module_imports_itself_through_others():
    graph = imports()
    reach = {module: reachable(graph, module) for module in graph}

    circles = {frozenset(m for m in reach[module] if module in reach[m]) for module in graph if module in reach[module]}

    assert [sorted(circle) for circle in circles if not circle & LEFT] == []
    assert sum(map(len, circles)) <= 20, "the circles that are left have grown"


def test_the_picture_of_the_rooms_is_as_they_are():
    text = PAGE.read_text(encoding="utf-8")

    assert text == drawn(text), "draw it anew: python -m tools.rooms"
