"""Run the benchmarks: ``PYTHONPATH=tests python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.comparisons import COMPARISONS
from benchmarks.measuring import run

SHOWCASE = Path(__file__).parents[2] / "reports" / "showcase"


def main() -> None:
    """Run comparisons, print their rows, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Takes minutes; leave the machine idle.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per comparison (default: 5)")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, metavar="NAME", help=", ".join(COMPARISONS))
    parser.add_argument("--output", type=Path, default=SHOWCASE, help="folder (default: reports/showcase)")
    arguments = parser.parse_args()

    # Here, because the processes of the sides import this module as well.
    from benchmarks.report import describe_machine, peak_gflops, rows, write_report

    peak = peak_gflops()
    results = {}
    for name in arguments.only or COMPARISONS:
        results[name] = run(COMPARISONS[name], arguments.rounds, lambda line: print(f"  {line}", file=sys.stderr))
        print("\n".join(rows(name, results[name])), flush=True)
    for path in write_report(results, describe_machine(), peak, arguments.output):
        print(path)


if __name__ == "__main__":
    main()
