"""The repository's own map holds: what comments cite, what documents name and what they link to exists."""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SPEC = ROOT / "docs" / "spec"
PAGES = {"strategy": "strategy.md", "indicators": "indicators.md", "venue notes": "venue.md"}
CODE = sorted(path for room in ("bot", "tests", "tools", "bench") for path in (ROOT / room).rglob("*.py"))
DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MAPS = [
    *sorted(SPEC.glob("*.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("glossary", "architecture")),
    ROOT / "CONTRIBUTING.md",
]  # they name code

# "strategy 2 to 4, 7 and 8", "premium indicators 2.2", "venue notes 2.12". A bare "indicators 7" may be a count.
NUMBER = r"\d{1,2}(?:\.\d{1,2})?(?![\d.]*\d)"
CITATION = re.compile(
    rf"\b(strategy|(?:open |premium )indicators|indicators(?= \d+\.\d)|venue notes) ({NUMBER}(?:(?:,| to| and) {NUMBER})*)",
    re.I,
)
WORTH_READING = re.compile(r"(?:strategy|indicators|notes)[\s#]+\d", re.I)  # reading all files word by word takes 13 s
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
NAMED = re.compile(r"`((?:bot|tests|tools|bench|docs)/[\w./-]+)(?:: ([\w.]+))?`")


def prose(path: Path) -> list[str]:
    """Docstrings and comments of a file, each on one line; comment lines that follow each other are one."""
    source = path.read_text(encoding="utf-8")
    documented = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS))
    ]
    found = [ast.get_docstring(node) or "" for node in documented]
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text, line = token.string.lstrip("#"), token.start[0]
            found[len(found) - 1 :] = [found[-1] + text] if line == last + 1 else [found[-1], text]
            last = line
    return [" ".join(text.split()) for text in found]


def citations(path: Path) -> list[tuple[str, str]]:
    """Page and section of every citation of a file; a section of the open scripts reads "Open 1.6"."""
    found: list[tuple[str, str]] = []
    for text in prose(path) if WORTH_READING.search(path.read_text(encoding="utf-8")) else []:
        for match in CITATION.finditer(text):
            cited = match[1].lower()
            prefix = "Open " if cited.startswith("open ") else ""
            page = PAGES[cited.removeprefix("open ").removeprefix("premium ")]
            found += [(page, prefix + number) for number in re.findall(NUMBER, match[2])]
    return found


@cache
def text_of(path: Path) -> str:
    """A document without its fenced examples."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def sections(page: str) -> set[str]:
    """Numbers with which the headings of a page begin."""
    heads = [re.match(r"((?:Open )?\d+(?:\.\d+)?)\.? ", head) for head in HEADING.findall(text_of(SPEC / page))]
    return {head[1] for head in heads if head}


@cache
def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as the forge makes them."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in HEADING.findall(text_of(path))}


@cache
def names(path: Path) -> set[str]:
    """Functions, classes, their methods and the constants of a file, without running it."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, FUNCTIONS):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {node.name, *(f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, FUNCTIONS))}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_every_citation_in_comments_and_docstrings_names_a_section():
    cited = {path: citations(path) for path in CODE}

    lost = [f"{path.relative_to(ROOT)}: {page} {number}" for path, found in cited.items()
            for page, number in found if number not in sections(page)]  # fmt: skip
    assert lost == []
    assert {page for found in cited.values() for page, _ in found} == set(PAGES.values())
    assert sum(map(len, cited.values())) > 100  # else the pattern no longer finds them


def test_sections_are_numbered_once():
    for page in PAGES.values():
        heads = [head for head in HEADING.findall(text_of(SPEC / page)) if re.match(r"(Open )?\d", head)]
        assert len(heads) == len(sections(page)), page


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.name)
def test_every_file_and_function_that_a_map_names_exists(path):
    missing = [f"{file}: {name}" for file, name in NAMED.findall(text_of(path))
               if not (ROOT / file).exists() or (name and name not in names(ROOT / file))]  # fmt: skip

    assert missing == []


def test_every_rule_of_the_strategy_is_numbered_once_and_says_where_it_lives():
    text = text_of(SPEC / "strategy.md")
    rules = re.findall(r"\*\*S(\d+)\*\*", text)

    assert sorted(map(int, rules)) == list(range(1, len(rules) + 1))
    assert len({named for named in NAMED.findall(text) if named[1]}) > 60


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_internal_link_leads_somewhere(path):
    lost = []
    for target in LINK.findall(text_of(path)):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        place = path.parent / file if file else path
        if not place.exists() or (anchor and anchor not in anchors(place)):
            lost.append(target)

    assert lost == []
