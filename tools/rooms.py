"""`python -m tools.rooms`: draw the import graph of the bot's packages into `docs/architecture.md`.

Only the transitive reduction is drawn: if cli imports app and app imports report, cli -> report is left out.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms -->\n", "<!-- /rooms -->"


def rooms() -> dict[str, set[str]]:
    """Return the packages and top-level modules of `bot/` with the ones that each imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "bot").rglob("*.py")):
        room = path.relative_to(ROOT / "bot").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [f"bot.{alias.name}" for alias in node.names] if names == ["bot"] else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found.setdefault(room, set()).update(n.split(".")[1] for n in names if n.startswith("bot."))
    return {room: others - {room} for room, others in found.items() if not room.startswith("__")}


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the transitive reduction of the graph."""

    def below(room: str) -> set[str]:
        return set().union(*({other} | below(other) for other in graph[room]))

    return {room: others - set().union(*(below(other) for other in others)) for room, others in graph.items()}


def picture() -> str:
    """Return the graph in Mermaid syntax."""
    lines = [f"    {room} --> {other}" for room, others in sorted(reduced(rooms()).items()) for other in sorted(others)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```", ""])


def drawn(text: str) -> str:
    """Return the page with the current graph."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + picture() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
