"""Show how far studies are: python workflow/scripts/status.py [--all] [--results FOLDER] [STUDY ...]"""

import argparse
import sys
from pathlib import Path

from rangefinder import status, study, validation
from rangefinder.errors import InputError

CONFIG = Path("config/config.yaml")


def main() -> int:
    parser = argparse.ArgumentParser(description="How far studies are, read from their results alone.")
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help="studies to show (default: every one begun)"
    )
    parser.add_argument("--results", help=f"folder of results (default: that of {CONFIG}, or results)")
    parser.add_argument("--all", action="store_true", help="list every job, not only those that need a look")
    arguments = parser.parse_args()
    try:
        results = arguments.results
        if results is None:
            results = study.load_config(validation.read_yaml(CONFIG) if CONFIG.exists() else {})["results"]
        begun = {folder.name: folder for folder in status.studies(results)}
        for name in arguments.studies:
            if name not in begun:
                raise InputError("no such study was begun here", file=results, value=name, allowed=begun)
        if not begun:
            print(f"no study was begun in {results}")
        for name in arguments.studies or begun:
            print(status.text(begun[name], *status.read(begun[name]), every=arguments.all), end="\n\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
