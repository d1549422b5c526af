"""Replay attacks by what a failure printed:

    python -m tests.fuzz SEED/NUMBER [SEED/NUMBER …]

Prints each, sends it to a service that has seen none of the others, and prints what it logs.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.fuzz.attacks import attack
from tests.fuzz.target import attacked
from tests.service import Service


def main() -> None:
    names = [name for name in sys.argv[1:] if "/" in name]
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory))
        with attacked(service) as target:
            target.prepare()
            try:
                for name in names:
                    seed, _, number = name.partition("/")
                    print(attack(int(seed), int(number)))
                    target.storm(partial(attack, int(seed)), range(int(number), int(number) + 1))
            finally:
                print(service.log())


if __name__ == "__main__":
    main()
