"""Runs one benchmark and prints what it saw: tables for people (and READMEs), or JSON."""

import argparse
import dataclasses
import importlib
import os
import platform
import sys
from collections.abc import Callable, Sequence

import orjson

from benchmarks import Ratio, Report

BENCHMARKS = {
    "sign": "presigned part URLs a second, against botocore",
    "sign-http": "sign requests a second over HTTP, against Companion",
    "direct": "a file to a verified object, against a bare client, aws-cli, rclone and tus",
    "relay": "a file through the gateway, against the same on presigned URLs, and its memory",
    "complete": "completing and verifying many parts, against the bare call",
}
"""Name -> what it measures. Its module, with _ for -, is imported only when it is run."""

_THOUSAND = 1_000


def main() -> None:
    """Run `python -m benchmarks NAME [--json] [arguments of that benchmark]`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        usage="%(prog)s NAME [--json] [arguments of that benchmark, which --help lists]",
        description="Measures the gateway against its peers, in one run.",
        epilog="benchmarks: " + "; ".join(f"{name} ({what})" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    # What follows the name, --help too, is for the benchmark.
    options = parser.parse_args(given[:1])
    options.json, arguments = "--json" in sys.argv, given[1:]
    run: Callable[[Sequence[str]], Report] = importlib.import_module(
        f"benchmarks.{options.name.replace('-', '_')}"
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
    """Render a report as Markdown: what was measured, and how it compares."""
    names = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    lines = [
        f"{report.name}: {report.compared}",
        _machine(),
        "",
        f"| measured | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for row in report.rows:
        figures = (row.figures.get(name) for name in names)
        cells = ("" if figure is None else _number(figure) for figure in figures)
        lines.append(f"| {row.subject} | {' | '.join(cells)} |")
    if report.ratios:
        lines += ["", "| compared | value | goal |", "|---|---:|---:|"]
    lines += [
        f"| **{ratio.subject}** | **{ratio.value:,.3g}** | {_verdict(ratio)} |"
        for ratio in report.ratios
    ]
    return "\n".join(lines)


def _verdict(ratio: Ratio) -> str:
    if ratio.goal is None:
        return ""
    goal = f"at {'most' if ratio.at_most else 'least'} {ratio.goal:g}"
    return f"{goal}: {'met' if ratio.met else 'MISSED'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _THOUSAND else f"{value:.3g}"


def _machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
