"""Name, title, caption and section of every figure of the report."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from typing import Any

# Figures of a study as a whole, in the order of the report.
FIGURES = [
    {
        "file": "schedules.svg",
        "title": "Learning rate of every step",
        "caption": "The learning rate each step was made with, one run per schedule.",
        "section": "schedules",
    },
    {
        "file": "loss.svg",
        "title": "Loss by epoch",
        "caption": "Test loss, mean over seeds with a band from the lowest to the highest; training loss dotted.",
        "section": "curves",
    },
    {
        "file": "accuracy.svg",
        "title": "Accuracy by epoch",
        "caption": (
            "Test accuracy, mean over seeds with a band from lowest to highest; training accuracy dotted. Where "
            "the first epochs are much lower, the panel leaves them out, unless a run diverged in it."
        ),
        "section": "curves",
    },
    {
        "file": "batch-size.svg",
        "title": "Accuracy and time against batch size",
        "caption": (
            "Test accuracy, of the last epoch, or where a value was published by the published metric; a band is "
            "the 95 % interval over seeds. Seconds of training of all epochs. Published values are hollow; "
            "published times are of other hardware, and run to the epoch whose accuracy is given."
        ),
        "section": "batch",
    },
    {
        "file": "replay.svg",
        "title": "Our losses over the published ones",
        "caption": (
            "Training loss of every step and test loss of every epoch, ours over those the write-up logged, and "
            "the absolute difference of the training losses. Long curves are drawn by the lowest and highest "
            "point of each stretch."
        ),
        "section": "replay",
    },
]


def part_name(file: str, part: int) -> str:
    """File name of the part-th figure, from 1, of those that one figure's panels were parted into."""
    return file if part == 1 else file.replace(".svg", f"-{part}.svg")


def describe(ranges: Sequence[Mapping[str, Any]], drawn: Container[str]) -> list[dict[str, str]]:
    """File, title, caption and section of every figure that was drawn, in the order of the report."""
    shown = [entry for entry in _range_tests(ranges) if entry["file"] in drawn]
    for entry in FIGURES:
        names = (part_name(entry["file"], part) for part in itertools.count(1))
        files = list(itertools.takewhile(lambda name: name in drawn, names))
        if len(files) == 1:
            shown.append(entry)
            continue
        for part, file in enumerate(files, start=1):
            which = f"{part} of {len(files)}"
            caption = f"{entry['caption']} Part {which}." if part == 1 else f"The same, part {which}."
            shown.append({**entry, "file": file, "title": f"{entry['title']} ({which})", "caption": caption})
    return shown


def _range_tests(ranges: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "file": f"range-{entry['range_test']}.svg",
            "title": f"LR range test {entry['range_test']}",
            "caption": (
                "Raw training loss of every seed (dots), smoothed without lag (lines), lr_min to lr_max (band), the "
                "suggested learning rate with its interval (upright line), and the answers of other finders (marks "
                "at the bottom)."
            ),
            "section": "range",
        }
        for entry in ranges
    ]
