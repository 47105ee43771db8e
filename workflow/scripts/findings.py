"""Every claim answered, in one page: python workflow/scripts/findings.py RESULTS... [--studies FOLDER] [--to FILE]"""

import argparse
import sys
from pathlib import Path

from rangefinder import findings_page, records
from rangefinder.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="The claims of all write-ups and what our runs say, in one page."
    )
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="a folder of results")
    parser.add_argument(
        "--studies",
        default=ROOT / "config/studies",
        help="folder of the study files, beside which published/claims.yaml is (default: this checkout's)",
    )
    parser.add_argument("--to", help="file it goes to (default: findings.md in the first folder of results)")
    arguments = parser.parse_args()
    to = Path(arguments.to or Path(arguments.results[0]) / "findings.md")
    try:
        text = findings_page.page(arguments.results, arguments.studies, ROOT / "report", to)
        records.write_text(to, text)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
