"""One page over the claims of all write-ups, from folders of results; a study without results has not been run."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import cells, claims, comparison, findings, report, shown_findings, study
from .collection import Collection
from .errors import InputError
from .shown import shown_table

VERDICTS = (findings.HOLDS, findings.FAILS, findings.UNDECIDED, findings.NOT_RUN)
CAPTION = "Comparisons by verdict. A claim has one for each form, optimizer or schedule in which it can be answered."


def gathered(folders: Sequence[Path | str]) -> dict[str, tuple[Path, Collection]]:
    """The studies of folders of results by name, each with where it stands; trials answer nothing and are left out.

    Raises:
        InputError: a folder or a record cannot be used, or two folders have the same study.
    """
    found: dict[str, tuple[Path, Collection]] = {}
    for folder in folders:
        for name, collected in comparison.read(folder).items():
            if collected.study["trial"]:
                continue
            key, place = collected.study["name"], Path(folder) / name
            if key in found:
                allowed = "each study in one folder of results"
                raise InputError(
                    f"has the same study as {found[key][0]}", file=place, value=key, allowed=allowed
                )
            found[key] = place, collected
    return found


def page(folders: Sequence[Path | str], studies: Path | str, templates: Path, to: Path | str) -> str:
    """The page as Markdown.

    Args:
        folders: of results.
        studies: folder of the study files; the claims stand beside it, in ``published``.
        templates: folder of the templates.
        to: file that the page is written to, from which its links lead to the records.

    Raises:
        InputError: a record, a study or the claims cannot be used, or there are no claims.
    """
    studies = Path(studies)
    published = studies.parent / "published"
    names = claims.studies(directory=published)
    if not names:
        allowed = "a file of claims"
        raise InputError("no claims to be answered", file=claims.path(published), allowed=allowed)
    results = gathered(folders)
    told = [_study(name, results.get(name), studies, published, Path(to).parent) for name in names]
    rows = [
        {
            "study": entry["name"],
            "runs": f"{entry['finished']} of {entry['planned']}",
            **{verdict: entry["counts"][verdict] for verdict in VERDICTS},
        }
        for entry in told
    ]
    table = shown_table(rows, CAPTION, "findings", "Findings")
    template = report.environment(templates, html=False).get_template("findings.md.j2")
    return re.sub(r"\n{3,}", "\n\n", template.render(table=table, studies=told)).rstrip("\n") + "\n"


def _study(
    name: str, result: tuple[Path, Collection] | None, studies: Path, published: Path, start: Path
) -> Mapping[str, Any]:
    """One study for the template; without a result as its file plans it."""
    if result is None:
        folder, link, ranges = None, "", []
        record = study.load(studies / f"{name}.yaml").record()
        grouped = cells.group(record, [])
    else:
        folder, collected = result
        link = Path(os.path.relpath(folder, start)).as_posix() + "/"
        record, grouped, ranges = collected.study, collected.cells, collected.ranges
    found = findings.findings(record, grouped, ranges, directory=published, partial=True)
    shown = shown_findings.shown(found)
    for claim in shown:
        for answer in claim["answers"]:
            answer["runs"] = [run | {"link": link + run["link"]} for run in answer["runs"]]
    return {
        "name": name,
        "title": record["title"],
        "folder": folder,
        "report": f"{link}report.md" if folder and (folder / "report.md").is_file() else "",
        "finished": sum(len(cell.runs) for cell in grouped),
        "planned": len(record["runs"]),
        "counts": Counter(finding.verdict for finding in found),
        "findings": shown,
    }
