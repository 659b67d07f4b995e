"""`make locks`: the three lock files anew from pyproject.toml, each release with the hashes of all its files.

A hash is what makes a lock one: pip and uv refuse a file that is not the one that was locked, whoever sends it. Pins stay as
they are as long as pyproject.toml allows them; `make locks ARGS=--upgrade` takes the newest releases, and
`ARGS="--upgrade-package NAME"` that of one package. The locks hold for every Python from 3.11 on and every system, and name no
package index. Each holds what it adds to the one before and reads that one, so any of them can be installed alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = {
    "requirements.lock": (),
    "requirements-dev.lock": ("dev",),
    "requirements-bench.lock": ("dev", "bench"),
}
TOOL: Final = ROOT / "build" / "locks"  # uv, where the machine has none: it is needed for this alone
_PIN: Final = re.compile(r"^[A-Za-z0-9][\w.-]*==\S+")


def resolver() -> Path:
    """Return uv's path: the machine's, else one that is installed under build/."""
    found = shutil.which("uv")
    if found is not None:
        return Path(found)
    own = TOOL / ("Scripts" if os.name == "nt" else "bin")
    if not any(own.glob("uv*")):
        subprocess.run([sys.executable, "-m", "venv", str(TOOL)], check=True)
        subprocess.run([str(own / "python"), "-m", "pip", "install", "-q", "uv"], check=True)
    return own / "uv"


def entries(text: str) -> list[str]:
    """Return the pins of a lock, each with its hashes as one text."""
    found: list[str] = []
    for line in text.splitlines():
        if _PIN.match(line):
            found.append(line)
        elif found and line.startswith("    --hash="):
            found[-1] += f"\n{line}"
    return found


def resolved(uv: Path, groups: tuple[str, ...], before: list[str], options: list[str]) -> list[str]:
    """Return the pins of the project with `groups`; `before` are the pins to keep where they may stay."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "requirements.lock"
        out.write_text("\n".join(before), encoding="utf-8")
        words = ["pip", "compile", "-q", "pyproject.toml", "--universal", "--python-version", "3.11", "-o", str(out)]
        words += [
            "--fork-strategy",
            "fewest",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--no-emit-index-url",
            "--no-emit-find-links",
        ]
        for group in groups:
            words += ["--group", group]
        subprocess.run([str(uv), *words, *options], cwd=ROOT, check=True)
        return entries(out.read_text(encoding="utf-8"))


def main(options: list[str]) -> None:
    """Write the locks: all of them parts of one resolution, so that each fits on the one beneath it."""
    uv = resolver()
    before = [pin for name in LOCKS for pin in entries((ROOT / name).read_text(encoding="utf-8"))]
    everything = resolved(uv, (*LOCKS.values(),)[-1], before, options)
    known = {pin.split()[0]: pin for pin in everything}
    locked: set[str] = set()
    below = ""
    for name, groups in LOCKS.items():
        needed = {pin.split()[0] for pin in resolved(uv, groups, everything, [])}
        if strange := sorted(needed - known.keys()):
            raise SystemExit(f"{name} would need other versions than the lock above it: {', '.join(strange)}")
        added = [known[pin] for pin in sorted(needed - locked)]
        head = f"-r {below}\n" if below else ""
        (ROOT / name).write_text(head + "\n".join(added) + "\n", encoding="utf-8")
        print(f"{name}: {len(added)} packages")
        locked |= needed
        below = name


if __name__ == "__main__":
    main(sys.argv[1:])
