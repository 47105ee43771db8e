"""The workflow as a module of somebody else's, from a path and from a git host: other folder, other names of rules."""

import os
import shutil
import subprocess
import sys

from rangefinder import provenance, records
from workplace import ROOT, Workplace

STUDY = """
title: One run of another workflow
dataset: {name: digits, validation: 100, train_samples: 200, test_samples: 50}
model: {name: MLP, hidden: [8]}
run: {batch_size: 50, epochs: 1, lr: 0.1}
seeds: [0]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 1, steps_per_decade: 10}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""

SNAKEFILE = """
configfile: "own.yaml"


module rangefinder:
    snakefile:
        SOURCE
    config:
        config["rangefinder"]


use rule * from rangefinder as lr_*


rule mine:
    default_target: True
    input:
        "out/one/report.html",
    output:
        "mine.txt",
    shell:
        "wc -c < {input} > {output}"
"""


class Foreign(Workplace):
    """A folder with a Snakefile of its own, which takes the rules from elsewhere."""

    @classmethod
    def make(cls, folder, source):
        (folder / "my studies").mkdir(parents=True)
        (folder / "my studies/one.yaml").write_text(STUDY)
        (folder / "own.yaml").write_text(
            "rangefinder: {studies: [one], studies_dir: my studies, results: out}\n"
        )
        (folder / "Snakefile").write_text(SNAKEFILE.replace("SOURCE", source))
        return cls(folder)

    def command(self, *arguments):
        return [sys.executable, "-m", "snakemake", *arguments]


def test_a_module_builds_a_report_in_another_workflows_folder(tmp_path):
    place = Foreign.make(tmp_path / "theirs", repr(str(ROOT / "workflow/Snakefile")))
    assert place.planned() == [
        "lr_aggregate",
        "lr_draw_figures",
        "lr_extract_lr_range sgd",
        "lr_prepare_data",
        "lr_range_test sgd seed=0",
        "lr_resolve_study",
        "lr_train sgd-none-bs50-seed0",
        "lr_write_report",
        "mine",
    ]
    assert not (place.folder / "out").exists()
    place.snakemake()
    assert int((place.folder / "mine.txt").read_text()) > 10_000
    assert "One run of another workflow" in (place.folder / "out/one/report.html").read_text()
    assert {path.name for path in place.folder.iterdir()} == {
        *(".snakemake", "Snakefile", "mine.txt", "my studies", "out", "own.yaml")
    }
    assert "Nothing to be done" in place.snakemake("-n")
    # A study is a target by its name there too.
    assert "Nothing to be done" not in place.snakemake("-n", "lr_one-plan")


def test_a_module_from_a_git_host_builds_the_same_report(tmp_path):
    """Snakemake's `github` is asked for a tag of a repository, whose address git replaces by that of a local one."""
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    host = tmp_path / "host/somebody/rangefinder"
    for name in ("rules", "workflow", "report", "envs"):
        shutil.copytree(ROOT / name, host / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", host)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=host, env=os.environ | identity, check=True)
    source = 'github("somebody/rangefinder", path="workflow/Snakefile", tag="v1")'
    place = Foreign.make(tmp_path / "theirs", source)
    place.snakemake(
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.file://{tmp_path}/host/.insteadOf",
        GIT_CONFIG_VALUE_0="https://github.com/",
    )
    assert "One run of another workflow" in (place.folder / "out/one/report.html").read_text()
    run = records.read_json(place.folder / "out/one/runs/sgd-none-bs50-seed0/run.json", "run")
    assert run["provenance"]["engine_digest"] == provenance.engine_digest()
