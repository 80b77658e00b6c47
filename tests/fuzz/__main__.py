"""Malformed input at scale: `python -m tests.fuzz [--cases 120000] [--seed 1] [--family NAME]`.

Asks real predictors, over HTTP with connections that are kept and over gRPC, and prints what they answered by family
and status. Fails (exit 1) on a 5xx but 501, an error that is no JSON with the key `error`, an answer that does not come
within 30 s, another answer to the one question that is asked in between, a traceback in the log, an answer that the
OpenAPI document does not have, or memory that grows. Each fault is told with the command that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.fuzz import campaign, target
from tests.fuzz.campaign import BATCH, FAMILIES, GROWTH_MIB, WARM, Cases, Result

MODULES = {"http": "functions.predictor", "grpc": "functions.predictor.grpc_server"}


def run(
    families: tuple[campaign.Family, ...], cases: int, seed: int, only_batch: int | None
) -> tuple[list[Result], str]:
    """What came of each family; and what is told of memory and the logs, empty where nothing is wrong with them."""
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as name, ExitStack() as stack:
        targets, told, results = {}, [], []
        for over in dict.fromkeys(family.over for family in families):
            folder = Path(name) / over
            folder.mkdir()
            targets[over] = stack.enter_context(target.running(folder, MODULES[over]))
        open_cases = [stack.enter_context(Cases(family, targets[family.over])) for family in families]
        wanted = dict(campaign.shares(families, cases))
        if only_batch is None:
            for each in open_cases:
                each.batch(seed, -1, WARM)
        before = {over: each.rss_mib() for over, each in targets.items()}
        for family, each in zip(families, open_cases, strict=True):
            number = 0 if only_batch is None else only_batch
            while each.result.cases < wanted[family]:
                each.batch(seed, number, min(BATCH, max(1, wanted[family] - each.result.cases)))
                number += 1
                if only_batch is not None or len(each.result.faults) >= 5:
                    break
            results.append(each.result)
            print(_line(each.result), flush=True)
        for over, each in targets.items():
            after = each.rss_mib()
            print(f"{over}: {before[over]:.1f} MiB when warm, {after:.1f} MiB at the end")
            if only_batch is None and after - before[over] > GROWTH_MIB:
                told.append(f"{over}: memory grew by {after - before[over]:.1f} MiB")
            told += [f"{over}: a traceback in the log: {line}" for line in dict.fromkeys(each.tracebacks())]
        return results, "\n".join(told)


def _line(result: Result) -> str:
    counts = "  ".join(f"{status} {count:,}" for status, count in sorted(result.counts.items()))
    rate = result.cases / result.seconds if result.seconds else 0.0
    return f"{result.family:18} {result.cases:>7,} cases {rate:>6,.0f}/s  slowest {result.slowest_s:5.2f} s  {counts}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=120_000, help="of all families together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", choices=[family.name for family in FAMILIES], help="this one alone")
    parser.add_argument("--batch", type=int, help="this one alone, as a fault names it")
    arguments = parser.parse_args()
    families = tuple(family for family in FAMILIES if arguments.family in (None, family.name))
    began = time.monotonic()
    results, told = run(families, arguments.cases, arguments.seed, arguments.batch)
    faults = [f"{result.family}: {fault}" for result in results for fault in result.faults]
    total = sum(result.cases for result in results)
    found = len(faults) + bool(told)
    print(f"{total:,} cases in {time.monotonic() - began:.0f} s, seed {arguments.seed}: {found} faults")
    print("\n".join([*faults, told]).strip())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
