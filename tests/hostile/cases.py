"""All hostile cases, and which of them CI plays."""

import hashlib
from typing import Final

from tests.hostile.case import Case
from tests.hostile.phases import PAIRS, PHASES, STARTS, WRITES
from tests.hostile.pushes import PUSHES
from tests.hostile.reads import READS

CASES: Final[tuple[Case, ...]] = (*READS, *PUSHES, *PHASES, *PAIRS, *WRITES, *STARTS)
SHARE: Final = 10  # one in so many
SEED: Final = 41  # the first by which every table has its share


def in_ci(case: Case) -> bool:
    """Whether a case is of the tenth that CI plays: drawn by its number, so that a new case moves no other."""
    return int.from_bytes(hashlib.sha256(f"{SEED} {case.number}".encode()).digest()[:8]) % SHARE == 0
