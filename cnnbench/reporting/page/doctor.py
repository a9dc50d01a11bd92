"""The page of the doctor: what may be wrong with a data set, with the pictures side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnbench.reporting.page.render import Answer, render

SIDE = 176  # pixels of a picture on the page
PIXELATED = 64  # per side, up to which pixels are seen as they are


@dataclass(frozen=True)
class Shown:
    """One example.

    Attributes:
        uri: of its picture; empty where it has none.
        name: with its split.
        label: its target.
    """

    uri: str
    name: str
    label: str


@dataclass(frozen=True)
class Case:
    """One finding.

    Attributes:
        pictures: of one example or of two.
        why: in words.
        suggested: the target that a model finds instead; empty where it is not about that.
        action: what the fixes do about it.
    """

    pictures: Sequence[Shown]
    why: str
    suggested: str
    action: str


@dataclass(frozen=True)
class Cases:
    """The findings of one kind.

    Attributes:
        about: what they have in common.
        total: how many there are.
        cases: those that are shown.
    """

    about: str
    total: int
    cases: Sequence[Case]


def picture_uri(picture: np.ndarray) -> str:
    """Return a picture ``(height, width, channels)`` uint8 for a page, small."""
    from PIL import Image

    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    scale = SIDE / max(image.size)
    how = Image.Resampling.NEAREST if max(image.size) <= PIXELATED else Image.Resampling.LANCZOS
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    packed = io.BytesIO()
    image.resize(size, how).convert("RGB").save(packed, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"


def doctor_page(found: Any, sections: Mapping[str, Cases]) -> str:
    """Return the HTML page.

    Args:
        found: a `sweeps.Doctor`.
        sections: its findings, by kind.
    """
    examples = sum(found.examples.values())
    strong = [row.by for row in found.shortcuts if row.verdict == "shortcut"]
    told = "classes can be told by " + " and ".join(strong) if strong else "no shortcut is strong"
    answers = [
        Answer(
            "How many may be wrong?",
            {f"of {examples:,} examples": f"{found.flagged:,}"},
            ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items()) or "nothing was found",
        ),
        Answer(
            "How sure is the judge?",
            {f"{found.metric.replace('_', ' ')} out of fold": f"{found.score:.4g}"},
            f"a linear model of {found.features}: the better it is, the fewer labels it doubts wrongly",
        ),
        Answer("Is there a shortcut?", {"": "yes" if strong else "no"} if found.shortcuts else {}, told),
    ]
    steps = dict(zip(("what the fixes are worth", "compare on the test split"), found.next, strict=False))
    return render(
        "doctor.html.j2",
        {},
        chart_ids=[],
        title=found.dataset,
        subtitle=f"{found.task}; {', '.join(f'{count:,} {name}' for name, count in found.examples.items())}",
        answers={"": answers},
        steps=steps,
        notes=found.notes,
        sections=sections,
        overlaps=found.overlaps,
        shortcuts=found.shortcuts,
        fixes=found.fixes,
    )
