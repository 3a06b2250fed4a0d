"""Runs one benchmark and prints what it saw: a table for people (and READMEs), or JSON."""

import argparse
import dataclasses
import importlib
import os
import platform
from collections.abc import Callable, Sequence

import orjson

from benchmarks import Report

BENCHMARKS = {
    "sign": "presigned part URLs a second, against botocore",
    "direct": "a file to a verified object, against a bare client",
}
"""Name of the module -> what it measures. A module is imported only when it is run."""

_THOUSAND = 1_000


def main() -> None:
    """Run `python -m benchmarks NAME [--json] [arguments of that benchmark]`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the gateway against its peers, in one run.",
        epilog="benchmarks: " + "; ".join(f"{name} ({what})" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options, arguments = parser.parse_known_args()
    run: Callable[[Sequence[str]], Report] = importlib.import_module(
        f"benchmarks.{options.name}"
    ).run
    report = run(arguments)
    print(as_json(report) if options.json else as_table(report))


def as_json(report: Report) -> str:
    """Render a report, with the machine it ran on, for programs."""
    document = dataclasses.asdict(report)
    for rendered, ratio in zip(document["ratios"], report.ratios, strict=True):
        rendered["met"] = ratio.met
    return orjson.dumps(document | {"machine": _machine()}).decode()


def as_table(report: Report) -> str:
    """Render a report as Markdown."""
    lines = [
        f"{report.name}: {report.compared}",
        _machine(),
        "",
        "| measured | value | goal |",
        "|---|---:|---:|",
        *(f"| {row.subject} | {_number(row.value)} {row.unit} | |" for row in report.rows),
    ]
    for ratio in report.ratios:
        goal = f"at {'most' if ratio.at_most else 'least'} {ratio.goal:g}"
        verdict = "met" if ratio.met else "MISSED"
        lines.append(f"| **{ratio.subject}** | **{ratio.value:,.3g}** | {goal}: {verdict} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _THOUSAND else f"{value:.4g}"


def _machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
