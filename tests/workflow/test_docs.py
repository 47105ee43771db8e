"""Every command in the documentation: tried with a dry run, or listed here with the reason why it is not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest
from workplace import ROOT

PAGES = [ROOT / "README.md", ROOT / "config/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The tutorial is done in whole, by test_tutorial.py.
PAGES.remove(ROOT / "docs/tutorial.md")

# Commands that are not dry-run, by how they begin, with what is missing here.
NOT_TRIED = {
    "scancel 17": "ends a job of SLURM's",
    "squeue --me": "asks SLURM",
    "scontrol show config": "asks SLURM",
    "grep MinJobAge": "reads what scontrol says",
    "git checkout": "is spoken of",
    "scontrol requeue": "asks SLURM",
    "rsync -a": "an option to the reader's own command",
    "source .venv/bin/activate": "sets the reader's shell up; test_tutorial.py does it",
    "snakemake --unlock": "takes a lock away that is not there",
    "snakemake --workflow-profile profiles/slurm --sdm conda": "needs conda",
    "snakemake --containerize": "needs conda's channels",
    "snakemake --executor kubernetes": "needs a plugin that is not a dependency; the page says untested",
    "snakemake --cores --resources": "is there to be refused",
}


def commands_of(page):
    """The commands of a page, each as a list of words, with the files that the page makes beforehand."""
    found = []
    for block in pages.blocks(page):
        if block.file is None and pages.is_commands(block):
            found += pages.words(block.text)
    prose = re.sub(r"(?:^ {4}.*\n)+", "", pages.FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", prose):
        if re.match(r"(snakemake|make|python|scancel|squeue|scontrol|sbatch|git|pip|rsync) [^ ]", text):
            found += pages.words(text)
    return found


def is_listed(words):
    return any(" ".join(words).startswith(beginning) for beginning in NOT_TRIED)


@pytest.fixture(scope="module")
def commands():
    return {page: commands_of(page) for page in PAGES}


def test_a_command_that_is_not_known_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Do\n\n    curl -O x\n    A=1 snakemake -n {a,b}\n\nand `make it so`, but not `make`.\n")
    assert commands_of(page) == [["curl", "-O", "x"], ["snakemake", "-n", "a", "b"], ["make", "it", "so"]]


def test_every_kind_of_command_is_known_and_each_exception_is_used(commands):
    every = [words for found in commands.values() for words in found]
    assert len(every) >= 40
    unknown = [
        words for words in every if words[0] not in ("snakemake", "make", "python") and not is_listed(words)
    ]
    assert not unknown
    for beginning in NOT_TRIED:
        assert any(" ".join(words).startswith(beginning) for words in every), beginning


def test_snakemake_commands_can_be_planned(commands, tmp_path):
    place = pages.checkout(tmp_path / "rangefinder", ROOT)
    (tmp_path / "data").mkdir()
    tried = {}
    for page, found in commands.items():
        for block in pages.blocks(page):
            if block.file:
                (place / block.file).write_text(block.text)
        for words in found:
            if words[0] == "snakemake" and not is_listed(words):
                words = [
                    word.replace("/path/to/data", str(tmp_path / "data")) for word in words if word != "…"
                ]
                tried.setdefault(json.dumps(words[1:]), str(page.relative_to(ROOT)))
    subprocess.run([sys.executable, "make_shapes.py"], cwd=place / "config/examples", check=True)
    script = [sys.executable, str(Path(pages.__file__)), str(place)]
    done = subprocess.run(script, input="\n".join(tried), capture_output=True, text=True, check=True)
    outcomes = dict(zip(tried, map(json.loads, done.stdout.splitlines()), strict=True))
    wrong = {f"{tried[words]}: snakemake {words}": text for words, (code, text) in outcomes.items() if code}
    assert not wrong, "\n".join(f"{name}\n{text[-1500:]}" for name, text in wrong.items())
    assert not (place / "results").exists()


def tables(*arguments, place=ROOT):
    """Run the script that makes the tables of docs/performance.md."""
    script = [sys.executable, str(place / "tests/benchmarks/table.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_figures_of_the_performance_page_are_those_of_the_records():
    done = tables("--check")
    assert done.returncode == 0, done.stderr


def test_other_figures_than_those_of_the_records_are_seen_and_left(tmp_path):
    for folder in ("docs", "tests/benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    page = tmp_path / "docs/performance.md"
    before, begin, after = page.read_text().partition("<!-- figures:")
    drifted = before + begin + after.replace("(", "(1", 1)
    page.write_text(drifted)
    done = tables("--check", place=tmp_path)
    assert done.returncode == 1 and "performance.md has other figures" in done.stderr
    assert page.read_text() == drifted
    assert tables(place=tmp_path).returncode == 0
    assert page.read_text() == before + begin + after
    assert tables("--check", place=tmp_path).returncode == 0


def test_make_commands_are_targets(commands):
    targets = {words[1] for found in commands.values() for words in found if words[0] == "make"}
    assert {"demo", "test", "status"} <= targets
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for target in targets:
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_python_commands_start(commands):
    """Their files or modules are there and take the options that are written."""
    scripts = {tuple(words[1:]) for found in commands.values() for words in found if words[0] == "python"}
    assert scripts
    variables = {**os.environ, "PYTHONPATH": "workflow/scripts"}
    for words in scripts:
        if words[0] == "-c":
            compile(words[1], "<page>", "exec")
            continue
        if words[0] == "make_shapes.py":
            continue  # run in test_snakemake_commands_can_be_planned
        target = words[:2] if words[0] == "-m" else words[:1]
        done = subprocess.run(
            [sys.executable, *target, "--help"],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for option in (word for word in words[len(target) :] if word.startswith("--")):
            assert option in done.stdout, (words, option)
