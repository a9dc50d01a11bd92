"""The verb `doctor`: what is likely to be wrong with a data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from cnnbench import api, reporting, sweeps
from cnnbench.cli.contract import Answer
from cnnbench.cli.typed import is_run, place, run_place
from cnnbench.errors import EXIT_DONE, EXIT_NO, CnnbenchError

if TYPE_CHECKING:
    from rich.table import Table

NAMED = 3  # findings of a kind that the terminal shows


def examine_data(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[sweeps.Doctor]:
    """Look for wrong labels, duplicates, outliers, poor pictures and shortcuts; write a page and fixes."""
    parser.description = (
        f"{examine_data.__doc__} Labels are judged by a cross-validated linear model of features: of the "
        "best pretrained backbone that is here, or backbone=NAME, backbone=pixels. No file of the data is "
        "altered: dataset.fixes=FOLDER/fixes.csv trains without what is wrong."
    )
    parser.add_argument(
        "overrides", nargs="*", help="a run, a folder of pictures, or as for a run: dataset=…"
    )
    parser.add_argument(
        "--limit", type=_share, metavar="SHARE", help="exit code 3 where more examples have a finding: 0.02"
    )
    parser.add_argument(
        "--output",
        type=lambda text: Path(text).expanduser(),
        metavar="DIR",
        help="for the page and fixes.csv (default: a new folder in outputs/)",
    )
    parser.add_argument("--config-dir", metavar="DIR", help="add a folder with options of your own")
    parser.add_argument("--trust-plugins", action="store_true", help="of a run: run the code that it names")
    given = parser.parse_intermixed_args(arguments)
    first = given.overrides[0] if given.overrides else ""
    run = run_place(first) if first and "=" not in first and is_run(place(first)) else None
    if run is not None and len(given.overrides) > 1:
        raise CnnbenchError(
            f"doctor takes the data set of {run}, so {given.overrides[1]} says nothing",
            f"cnnbench doctor {run}",
        )
    backbones = [text.partition("=")[2] for text in given.overrides if text.startswith("backbone=")]
    with reporting.stderr().status("composing") as status:
        found = api.doctor(
            *([] if run else [text for text in given.overrides if not text.startswith("backbone=")]),
            run=run,
            backbone=backbones[-1] if backbones else None,
            limit=given.limit,
            output=given.output,
            config_dir=given.config_dir,
            trust_plugins=given.trust_plugins,
            tell=lambda text: status.update(escape(text)),
        )
    reporting.say(reporting.stderr(), *(f"note: {note}" for note in found.notes), style="yellow")
    console = reporting.stdout()
    if found.counts:
        console.print(findings_table(found))
    reporting.say(console, *lines(found))
    if found.limit is not None:
        told = f"{found.share:.2%} of the examples have a finding, the limit is {found.limit:.2%}"
        console.print(f"[green]PASS[/] {told}" if found.passed else f"[red]FAIL[/] {told}")
    return Answer(found, EXIT_DONE if found.passed else EXIT_NO)


def _share(text: str) -> float:
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise CnnbenchError(f"--limit {text} is no share of the examples", "--limit 0.02, or --limit 2%")
    return found


def findings_table(found: sweeps.Doctor) -> Table:
    """Lay out the first findings of each kind."""
    from rich.table import Table

    table = Table()
    for column in ("finding", "example", "label", "why"):
        table.add_column(column, overflow="fold")
    for kind, count in found.counts.items():
        own = [one for one in found.findings if one.kind == kind]
        for number, one in enumerate(own[:NAMED]):
            heading = f"{kind}: {count:,}" if number == 0 else ""
            label = f"{one.label}, perhaps {one.suggested}" if one.suggested else one.label
            beside = f": {one.other}" if one.other else ""
            table.add_row(*map(escape, (heading, one.example, label, f"{one.why}{beside}")))
        if count > NAMED:
            table.add_row("", f"and {count - NAMED:,} more", "", "")
        table.add_section()
    return table


def lines(found: sweeps.Doctor) -> Iterator[str]:
    """Yield what is said below the table."""
    examples = sum(found.examples.values())
    splits = ", ".join(f"{count:,} {name}" for name, count in found.examples.items())
    yield (
        f"{found.dataset}: {found.flagged:,} of {examples:,} examples have a finding ({splits}), judged by a "
        f"linear model of {found.features} ({found.metric.replace('_', ' ')} {found.score:.4g} out of fold)"
    )
    for one in found.overlaps:
        share = f"{one.examples:,} examples, {one.share:.1%} of both"
        yield f"classes overlap: {one.first} and {one.second} ({share})"
    for row in found.shortcuts:
        if row.verdict != "none":
            what = "shortcut" if row.verdict == "shortcut" else "perhaps a shortcut"
            yield (
                f"{what}: {row.by} alone tells the classes with balanced accuracy {row.score:.3f} "
                f"({row.chance:.3f} by guessing)"
            )
    yield f"page:  {found.page}"
    if not found.fixes:
        return
    yield f"fixes: {found.fixes}; look at the page, and remove the rows that are wrong"
    yield "whether they help is for runs in pairs to say, on the test split, which fixes leave alone:"
    yield from (f"  {line}" for line in found.next)
