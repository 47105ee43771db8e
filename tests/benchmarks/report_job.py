"""One reporting rule's script on a made-up study, as Snakemake starts it; tells the most memory it used, in KiB.

python tests/benchmarks/report_job.py FOLDER RULE
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import harness

SCRIPTS = harness.ROOT / "workflow" / "scripts"
TEMPLATES = harness.ROOT / "report" / "report.html.j2"


def main() -> None:
    os.chdir(sys.argv[1])
    rule = sys.argv[2]
    results = Path("results/made")
    tables = [f"{results}/tables/{path.name}" for path in (results / "tables").glob("*.csv")]
    # The order of runs is the study's; here it need only be the same each time.
    files = {
        "study": f"{results}/study.json",
        "ranges": [f"{results}/lr_range/sgd/range.json"],
        "runs": sorted(f"{file}/run.json" for file in (results / "runs").iterdir()),
        "figures": f"{results}/figures",
        "tables": tables,
        "templates": [str(TEMPLATES)],
    }
    (results / "logs").mkdir(exist_ok=True)
    job = SimpleNamespace(
        threads=1,
        rule=rule,
        log=[f"{results}/logs/{rule}.log"],
        config={"trial": None},
        params=SimpleNamespace(file="config/studies/made.yaml"),
        input=type("Input", (dict,), files)(),
        output=SimpleNamespace(
            study=f"{results}/study.json",
            runs=f"{results}/runs.csv",
            tables=tables,
            figures=f"{results}/figures",
            html=f"{results}/report.html",
            markdown=f"{results}/report.md",
        ),
    )
    sys.path.insert(0, str(SCRIPTS))
    runpy.run_path(str(SCRIPTS / f"{rule}.py"), init_globals={"snakemake": job})
    print(harness.peak_memory_kib())


if __name__ == "__main__":
    main()
