"""`make locks`: regenerate the three lock files from pyproject.toml, each release with the hashes of all its files.

With hashes pip and uv reject any file other than the locked one, whatever its source. Pins are kept as long as
pyproject.toml allows them; `make locks ARGS=--upgrade` takes the newest releases, and `ARGS="--upgrade-package NAME"`
that of one package. The locks are valid for every Python from 3.11 on and every system, and name no package index. Each
contains its additions to the previous one and includes that one, so each can be installed by itself.
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
TOOL: Final = ROOT / "build" / "locks"  # uv, if not installed: nothing else needs it
_PIN: Final = re.compile(r"^[A-Za-z0-9][\w.-]*==\S+")


def resolver() -> Path:
    """Return the path of uv: the installed one, else install it under build/."""
    found = shutil.which("uv")
    if found is not None:
        return Path(found)
    own = TOOL / ("Scripts" if os.name == "nt" else "bin")
    if not any(own.glob("uv*")):
        subprocess.run([sys.executable, "-m", "venv", str(TOOL)], check=True)
        subprocess.run([str(own / "python"), "-m", "pip", "install", "-q", "uv"], check=True)
    return own / "uv"


def entries(text: str) -> list[str]:
    """Return the pins of a lock, each as one string with its hashes."""
    found: list[str] = []
    for line in text.splitlines():
        if _PIN.match(line):
            found.append(line)
        elif found and line.startswith("    --hash="):
            found[-1] += f"\n{line}"
    return found


def resolved(uv: Path, groups: tuple[str, ...], before: list[str], options: list[str]) -> list[str]:
    """Return the resolved pins of the project.

    Parameters
    ----------
    uv
        Path of uv.
    groups
        Dependency groups to include.
    before
        Pins to keep where pyproject.toml allows them.
    options
        Further options of `uv pip compile`.
    """
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
    """Write the locks: all are parts of one resolution, so that each is consistent with the one it includes."""
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
