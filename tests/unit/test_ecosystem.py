"""What other tools read of this project: environments, container recipe, citation, catalog, continuous integration."""

import re

import pytest
import yaml
from packaging.requirements import Requirement
from workplace import ROOT

# The names that differ between conda-forge and pip.
PIP_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "sys_platform": "linux",
}  # of the environments


def pins_of_pip():
    """Versions that pip installs for the environments' Python, by name."""
    lines = re.findall(r"^([a-zA-Z0-9].*?) *\\?$", (ROOT / "envs/pip/run.txt").read_text(), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        entry.name: str(entry.specifier).removeprefix("==")
        for entry in found
        if entry.marker is None or entry.marker.evaluate(PYTHON)
    }


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", ["envs/train.yaml", "envs/report.yaml"])
def test_conda_environments_pin_what_the_pip_set_pins(name):
    content = load(name)
    assert set(content) == {"channels", "dependencies"} and content["channels"][-1] == "nodefaults"
    pins = dict(re.fullmatch(r"(\S+) =(\S+)", entry).groups() for entry in content["dependencies"])
    assert pins.pop("python") == "3.11" and len(pins) >= 6
    pip = pins_of_pip()
    assert pins == {name: pip[PIP_NAMES.get(name, name)] for name in pins}


def test_every_rule_with_a_script_names_an_environment_that_exists():
    for path in (ROOT / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            named = re.search(r"conda:\s+\"(.+)\"", rule)
            assert named and (path.parent / named[1]).is_file(), rule.split(":")[0]


def test_the_container_recipe_copies_files_that_exist_and_installs_the_pins():
    lines = [line.split() for line in (ROOT / "envs/Containerfile").read_text().splitlines()]
    copied = [source for line in lines if line and line[0] == "COPY" for source in line[1:-1]]
    assert all((ROOT / source).exists() for source in copied)
    assert {"Snakefile", "rules", "workflow", "config", "profiles", "report"} <= set(copied)
    [install] = [line for line in lines if line[:1] == ["RUN"]]
    assert install[-2:] == ["-r", "envs/pip/run.txt"] and "--require-hashes" in install
    [base] = [line[1] for line in lines if line[:1] == ["FROM"]]
    assert base.endswith("python:3.11-slim")
    entry = re.search(r"ENTRYPOINT .*\"/opt/rangefinder/(\S+)\"", (ROOT / "envs/Containerfile").read_text())[
        1
    ]
    assert entry in copied


def test_the_workflow_on_github_runs_what_ci_runs():
    [job] = load(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"make lint", "make test"} <= set(commands)
    assert all(command.split()[1] in targets for command in commands)
    assert "snakemake --lint" in (ROOT / "Makefile").read_text()


def test_citation_and_catalog_say_what_the_project_is():
    import rangefinder

    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    assert citation["version"] == rangefinder.__version__
    assert citation["license"] == "MIT" and (ROOT / "LICENSE").read_text().startswith("MIT")
    usage = load(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": False, "apptainer+conda": False}
    assert usage["report"] is True
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml"):
        assert (ROOT / name).is_file()


def test_no_study_may_be_named_as_a_rule():
    from rangefinder import study

    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    rules = {name for path in files for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)}
    assert len(rules) >= 14 and {"data", "compare"} == study.TAKEN - rules and rules < study.TAKEN
