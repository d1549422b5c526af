"""What a filter costs an object: over columns, as a worker evaluates it, and in Google's library.

    python bench/cel.py [--objects 20000] [--repeat 7]

Batches of 1,000 objects of which about half are chosen; picking these is counted, for the library
(which is given rows that are ready) only the answers are. CPU time, the least of all repetitions.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cel_expr_python import cel

from longshore.patch import dump_map, load_map
from longshore.sources.project_source import checker
from longshore.sources.project_source.fields import OBJECT_FIELDS, Kind
from longshore.sources.project_source.predicate import Predicate
from longshore.store import Batch

BATCH = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FILTERS = {
    "simple": "size > 500000",
    "typical": "name.endsWith('.json') && storageClass == 'STANDARD'"
    " && timeCreated < timestamp('2026-01-01T00:00:00Z') && size > 1000",
    "absent values": "!(contentType in ['text/plain', 'text/html'] || customTime < updated)",
    "exists, contexts alike": "contexts.exists(c, c.key == 'env' && c.value == 'prod')",
    "exists, metadata all different": "metadata.exists(c, c.key == 'part' && c.value < '5')",
}
TYPES = {
    Kind.TEXT: cel.Type.STRING,
    Kind.INT: cel.Type.INT,
    Kind.BOOL: cel.Type.BOOL,
    Kind.TIME: cel.Type.TIMESTAMP,
    Kind.RECORDS: cel.Type.List(cel.Type.Map(cel.Type.STRING, cel.Type.STRING)),
}


def table(count: int) -> Batch:
    """Objects as a listing gives them, with every column that a filter can ask."""
    draw = random.Random(1)
    year = 365 * 86_400 * 1_000_000
    start = 1_767_225_600_000_000 - year // 2
    created = [start + draw.randrange(year) for _ in range(count)]
    columns = {
        "storage_class": [draw.choice(("STANDARD", "NEARLINE")) for _ in range(count)],
        "content_type": [draw.choice(("", "text/plain", "image/png")) for _ in range(count)],
        "create_time_us": created,
        "update_time_us": [one + 1 for one in created],
        "custom_time_us": [draw.choice((0, start, start + year)) for _ in range(count)],
        "contexts": [
            dump_map({"env": draw.choice(("prod", "dev")), "team": "dock"}) for _ in range(count)
        ],
        "custom_metadata": [
            dump_map({"id": f"{number:08}", "part": str(draw.randrange(10)), "by": "import"})
            for number in range(count)
        ],
    }
    return Batch(
        names=[
            f"logs/2026/01/{number:08}.{draw.choice(('json', 'txt'))}" for number in range(count)
        ],
        generations=created,
        metagenerations=[1] * count,
        sizes=[draw.randrange(1_000_000) for _ in range(count)],
        columns=columns,
    )


def best(work: Callable[[], None], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def ours(expression: str, batches: list[Batch], repeat: int) -> float:
    predicate = Predicate(checker.check(expression, OBJECT_FIELDS), OBJECT_FIELDS)

    def work() -> None:
        for batch in batches:
            columns = {"name": batch.names, "size": batch.sizes, **batch.columns}
            batch.pick(predicate(columns, len(batch)))

    return best(work, repeat)


def library(expression: str, batch: Batch, repeat: int) -> float:
    columns = {"name": batch.names, "size": batch.sizes, **batch.columns}
    fields = {name: one for name, one in OBJECT_FIELDS.items() if one.column in columns}
    environment = cel.NewEnv(variables={name: TYPES[one.kind] for name, one in fields.items()})
    compiled = environment.compile(expression)
    rows = [
        {name: _value(one.kind, columns[one.column][index]) for name, one in fields.items()}
        for index in range(len(batch))
    ]

    def work() -> None:
        for row in rows:
            compiled.eval(data=row).value()

    return best(work, repeat)


def _value(kind: Kind, value: Any) -> Any:
    if kind is Kind.TIME:
        return EPOCH + timedelta(microseconds=value)
    if kind is Kind.RECORDS:
        return [{"key": key, "value": one} for key, one in load_map(value).items()]
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    whole = table(options.objects)
    starts = range(0, options.objects, BATCH)
    batches = [whole.pick(range(one, min(one + BATCH, options.objects))) for one in starts]
    print("| filter | µs an object | in the library | check, ms | compile, ms |")
    print("|---|---|---|---|---|")
    for name, expression in FILTERS.items():
        tree = checker.check(expression, OBJECT_FIELDS)
        check = best(lambda text=expression: checker.check(text, OBJECT_FIELDS), options.repeat)
        compiling = best(lambda one=tree: Predicate(one, OBJECT_FIELDS), options.repeat)
        mine = ours(expression, batches, options.repeat) / options.objects
        theirs = library(expression, batches[0], options.repeat) / len(batches[0])
        print(
            f"| {name} | {mine * 1e6:.2f} | {theirs * 1e6:.1f}"
            f" | {check * 1e3:.2f} | {compiling * 1e3:.2f} |"
        )


if __name__ == "__main__":
    main()
