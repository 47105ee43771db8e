"""Compare two folders of results: python workflow/scripts/compare.py A B [--name NAME] [--to FOLDER]"""

import argparse
import sys
from pathlib import Path

from rangefinder import comparison, records, shown_comparison
from rangefinder.errors import InputError

TEMPLATES = Path(__file__).resolve().parents[2] / "report"


def main() -> int:
    parser = argparse.ArgumentParser(description="Two folders of results in one page, cell by cell.")
    parser.add_argument("results", nargs=2, metavar="RESULTS", help="a folder of results; the first is A")
    parser.add_argument("--name", default="comparison", help="of the files (default: comparison)")
    parser.add_argument("--to", help="folder they go to (default: compare/ in the first folder of results)")
    arguments = parser.parse_args()
    try:
        left, right = (comparison.read(folder) for folder in arguments.results)
        both = comparison.common(left, right, arguments.results)
        studies = {name: (left[name], right[name]) for name in both}
        alone = [
            (side, name)
            for side, mine in zip(comparison.SIDES, (left, right), strict=True)
            for name in mine
            if name not in both
        ]
        text = comparison.text(studies)
        context = shown_comparison.context(studies, arguments.results, alone)
        texts = shown_comparison.pages(context, text, arguments.name, TEMPLATES) | {"csv": text}
        folder = Path(arguments.to or Path(arguments.results[0]) / "compare")
        for kind, content in texts.items():
            records.write_text(folder / f"{arguments.name}.{kind}", content)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder / f"{arguments.name}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
