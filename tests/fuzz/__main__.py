"""Replay attacks by what a failure printed:

    python -m tests.fuzz SEED/NUMBER [SEED/NUMBER …]

Prints each, sends it to a service that has seen none of the others, and prints what it logs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz.attacks import attack
from tests.fuzz.target import Target
from tests.service import Service


def main() -> None:
    names = [name for name in sys.argv[1:] if "/" in name]
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory))
        service.start()
        target = Target(service)
        try:
            target.prepare()
            for name in names:
                seed, _, number = name.partition("/")
                one = attack(int(seed), int(number))
                print(one)
                target.storm(lambda _number, one=one: one, range(1))  # type: ignore[misc]
        finally:
            target.close()
            service.close()
            print(service.log())


if __name__ == "__main__":
    main()
