"""The whole chain, run by Snakemake on a small real study."""

import hashlib
import json
import os
import re
import shutil
import zipfile

import pytest
from rangefinder import records, study
from workplace import ROOT, Workplace

REPORTING = ["aggregate", "all", "draw_figures", "write_report"]
RUNS = [
    f"sgd-{kind}-seed{seed}" for kind in ("none-bs50", "none-bs50-lr0.1", "onecycle-bs50") for seed in (0, 1)
]


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_every_stage_leaves_what_it_should(finished):
    folder = finished.folder / "results/small"
    assert sorted(path.name for path in (folder / "runs").iterdir()) == sorted(RUNS)
    for run in RUNS:
        record = records.read_run(folder / "runs" / run)
        assert record["run"]["status"] == "completed"
        assert len(record["epochs"]["epoch"]) == 2 and len(record["steps"]["step"]) == 12
    entry = records.read_json(folder / "lr_range/sgd/range.json", "range")
    suggested = records.read_run(folder / "runs/sgd-none-bs50-seed0")["run"]["lr"]
    assert suggested == {
        "expression": "suggested",
        "value": entry["suggested_lr"]["value"],
        "range_test": "sgd",
        "range_status": entry["status"],
    }
    html = (folder / "report.html").read_text()
    for text in ("A small study", "Which learning rate?", "onecycle", "Provenance", "<svg"):
        assert text in html
    assert "This is a trial" not in html
    assert not (folder / "checkpoints").exists()
    assert [path for path in folder.rglob(".*") if path.name != ".snakemake_timestamp"] == []


def test_snakemakes_own_report_shows_page_tables_and_figures_with_captions(copy):
    copy.snakemake("--report", "snakemake-report.zip")
    with zipfile.ZipFile(copy.folder / "snakemake-report.zip") as archive:
        names = archive.namelist()
        text = archive.read(min((name for name in names if name.endswith("report.html")), key=len)).decode()
    stems = {name.rsplit("/", 1)[-1] for name in names}
    assert {"report.html", "accuracy.csv", "runs.csv", "accuracy.svg", "schedules.svg"} <= stems
    for label in ("figures", "tables", "lr ranges", "range-sgd"):
        assert f'"{label}"' in text, label
    for caption in (
        "drawn from its records alone",
        "made from its records alone",
        "in one file: the answers",
    ):
        assert caption in text


def test_nothing_is_left_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("-n")


def test_rebuilding_the_report_gives_the_same_bytes_anywhere(copy, finished):
    folder = copy.folder / "results/small"
    before = digests(folder)
    for name in ("figures", "tables"):
        shutil.rmtree(folder / name)
    (folder / "report.html").unlink()
    (folder / "report.md").unlink()
    shutil.rmtree(copy.folder / ".snakemake")
    copy.snakemake(TZ="Pacific/Kiritimati", LC_ALL="C", LANG="tr_TR.UTF-8", PYTHONHASHSEED="77")
    after = digests(folder)
    different = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name for name in different if not name.startswith("logs/")} == set()


@pytest.mark.parametrize("cores", ["1", "2"])
def test_another_execution_gives_the_same_records_on_one_core_and_on_two(finished, tmp_path, cores):
    place = Workplace.make(tmp_path / "again")
    output = place.snakemake("results/small/tables/accuracy.csv", "--cores", cores)
    assert f"Provided cores: {cores}" in output
    first, again = (digests(made.folder / "results/small") for made in (finished, place))
    timed = ("logs/", "progress/", "report", "figures", "tables")
    records = {name for name in first if not name.startswith(timed) and "machine.json" not in name}
    assert {
        f"runs/{run}/{file}" for run in RUNS for file in ("run.json", "epochs.csv", "steps.csv")
    } < records
    for name in sorted(records | {"tables/accuracy.csv", "tables/lr_ranges.csv"}):
        assert again[name] == first[name], name


def test_a_changed_value_trains_again_what_it_concerns_and_no_more(copy):
    copy.edit("onecycle: {name: OneCycleLR}", "onecycle: {name: OneCycleLR, pct_start: 0.4}")
    concerned = [f"train {run}" for run in RUNS if "onecycle" in run]
    assert copy.planned() == sorted([*REPORTING, "resolve_study", *concerned])


def test_a_changed_range_test_trains_again_what_reads_it(copy):
    copy.edit("steps_per_decade: 20", "steps_per_decade: 21")
    concerned = [f"train {run}" for run in RUNS if "lr0.1" not in run]
    sweeps = ["range_test sgd seed=0", "range_test sgd seed=1"]
    assert [job for job in copy.planned() if job not in (*REPORTING, "resolve_study")] == sorted(
        ["extract_lr_range sgd", *sweeps, *concerned]
    )


def test_a_new_seed_trains_only_that_seed(copy):
    copy.edit("seeds: [0, 1]", "seeds: [0, 1, 2]")
    jobs = [job for job in copy.planned() if job.startswith("train")]
    assert "train sgd-none-bs50-lr0.1-seed2" in jobs
    # The range is extracted anew from three seeds, so what reads it follows.
    assert "train sgd-none-bs50-lr0.1-seed0" not in jobs


def test_a_sweep_that_shares_finished_runs_does_not_train_them_again(copy):
    copy.edit("sweeps:\n", "sweeps:\n  again:\n    grid: {optimizer: [sgd], schedule: [none]}\n")
    assert copy.planned() == sorted([*REPORTING, "resolve_study"])


def test_a_clock_set_back_loses_nothing_and_makes_nothing_again(copy):
    for path in (copy.folder / "results").rglob("*"):
        moment = path.lstat().st_mtime + 3600  # written when the clock was an hour ahead
        os.utime(path, (moment, moment), follow_symlinks=False)
    before = copy.records()
    shutil.rmtree(copy.folder / f"results/small/runs/{RUNS[0]}")
    shutil.rmtree(copy.folder / "results/small/tables")
    for page in ("report.html", "report.md"):
        (copy.folder / "results/small" / page).unlink()
    assert [job for job in copy.planned() if job.startswith(("train", "range_test"))] == [f"train {RUNS[0]}"]
    copy.snakemake()
    assert copy.records() == before
    assert copy.planned() == []


def test_words_change_only_the_report(copy):
    copy.edit("title: A small study", "title: Another title")
    assert copy.planned() == sorted([*REPORTING, "resolve_study"])


def test_touching_a_script_runs_nothing(copy):
    script = ROOT / "workflow/scripts/train.py"
    status = script.stat()
    script.touch()
    try:
        assert "Nothing to be done" in copy.snakemake("-n")
    finally:
        os.utime(script, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_edited_record_is_refused_by_name(copy):
    path = copy.folder / f"results/small/runs/{RUNS[0]}/run.json"
    path.write_text(path.read_text().replace('"final_test_accuracy": 0.', '"final_test_accuracy": 0.9'))
    output = copy.snakemake(code=1)
    assert f"runs/{RUNS[0]}/run.json: checksum: record was changed after it was written" in output


def test_a_sweep_or_lr_range_of_another_test_is_refused_by_name(copy):
    """Each with a right checksum, as a copied folder has it."""
    place = copy.folder / "results/small/lr_range/sgd"
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for name in ("sweep.json", "sweep.csv", "machine.json"):
        shutil.copy(place / "seed0" / name, place / "seed1" / name)
    output = copy.snakemake(code=1)
    assert "lr_range/sgd/seed1/sweep.json: seed: record belongs elsewhere" in output
    for path, content in before.items():
        path.write_bytes(content)
    found = records.read_json(place / "range.json", "range")
    records.write_json(place / "range.json", found | {"range_test": "adam"})
    output = copy.snakemake(code=1)
    assert "lr_range/sgd/range.json: range_test: record belongs elsewhere" in output
    assert sorted(path.name for path in (place.parents[1] / "runs").iterdir()) == sorted(RUNS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("steps.csv", "table does not match its record (truncated or edited)"),
        ("machine.json", "record was changed after it was written"),
    ],
)
def test_a_report_stands_for_whole_records_also_for_what_it_does_not_read(copy, name, message):
    before, path = copy.records(), copy.folder / f"results/small/runs/{RUNS[0]}/{name}"
    path.write_text(path.read_text().replace("1", "2", 1))
    (copy.folder / "results/small/report.html").unlink()
    output = copy.snakemake(code=1)
    assert f"runs/{RUNS[0]}/{name}: " in output and message in output
    assert "delete its folder and run again" in output
    shutil.rmtree(path.parent)
    copy.snakemake()
    assert copy.records() == before


CHANGED = "(truncated or edited); delete its folder and run again"


@pytest.mark.parametrize(
    ("name", "message", "deleted"),
    [
        ("tables/runs.csv", f"tables/runs.csv: table does not match its record {CHANGED}", "tables"),
        ("tables/time.csv", f"tables/time.csv: table does not match its record {CHANGED}", "tables"),
        ("tables.json", "tables.json: ", "tables.json"),
        (
            "lr_range/sgd/seed0/sweep.csv",
            f"sweep.csv: table does not match its record {CHANGED}",
            "lr_range/sgd/seed0",
        ),
        (
            "lr_range/sgd/range.json",
            "range.json: ",
            "lr_range/sgd/range.json",
        ),
        (f"runs/{RUNS[0]}/run.json", "run.json: ", f"runs/{RUNS[0]}"),
    ],
)
def test_what_changed_ends_in_one_line_before_anything_made_from_it_is_deleted(copy, name, message, deleted):
    folder = copy.folder / "results/small"
    before, path = digests(folder), folder / name
    position = path.read_bytes().index(b"1")
    path.write_bytes(path.read_bytes()[:position] + b"2" + path.read_bytes()[position + 1 :])
    changed = digests(folder)
    output = copy.snakemake(code=1)
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and message in told[0] and "and run again" in told[0], output
    assert "Traceback" not in output and digests(folder) == changed
    shutil.rmtree(folder / deleted) if (folder / deleted).is_dir() else (folder / deleted).unlink()
    copy.snakemake()
    after = digests(folder)
    assert set(after) == set(before)
    # What is made again has the same bytes, but for the times that it took; no run is trained again for it.
    different = {file for file in after if after[file] != before[file] and not file.startswith("logs/")}
    assert different <= {path.with_name("machine.json").relative_to(folder).as_posix()} | (
        {"report.html", "report.md", "tables/time.csv", "tables.json"} if name.startswith("runs/") else set()
    )


def test_a_figure_that_changed_never_gets_into_a_report(copy):
    folder = copy.folder / "results/small"
    before, path = digests(folder), folder / "figures/loss.svg"
    path.write_text(path.read_text().replace("</svg>", "<g/></svg>"))
    (folder / "report.html").unlink()
    assert f"figures/loss.svg: figure does not match its record {CHANGED}" in copy.snakemake(code=1)
    shutil.rmtree(path.parent)
    copy.snakemake()
    assert {name: digest for name, digest in digests(folder).items() if not name.startswith("logs/")} == {
        name: digest for name, digest in before.items() if not name.startswith("logs/")
    }


def test_data_that_changed_end_in_one_line_before_any_result_is_deleted(copy):
    before, folder = copy.records(), next(copy.folder.glob("results/data/digits*"))
    path = folder / "test_labels.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)  # and is newer than all that was made from it
    output = copy.snakemake(code=1)
    assert f"error: {path.relative_to(copy.folder)}: contents changed: SHA-256 is not" in output
    assert "Traceback" not in output and "rule train:" not in output
    assert copy.records() == before
    shutil.rmtree(folder)
    copy.snakemake()
    assert copy.records() == before


def test_a_record_that_is_gone_is_made_again_though_the_report_is_there(copy):
    before = copy.records()
    shutil.rmtree(copy.folder / f"results/small/runs/{RUNS[0]}")
    shutil.rmtree(copy.folder / "results/small/lr_range")
    copy.snakemake()
    assert copy.records() == before


def test_results_that_cannot_be_written_end_before_any_job_in_one_line(tmp_path):
    place = Workplace.make(tmp_path)
    output = place.snakemake(
        "--config", "results=/proc/results", code=1
    )  # where root can make no folder either
    assert "error: /proc/results: cannot be written: No such file or directory" in output.splitlines()
    assert "Traceback" not in output and "rule prepare_data" not in output
    assert not list(tmp_path.glob(".snakemake/locks/*"))


def test_a_partial_report_names_what_is_missing(copy):
    shutil.rmtree(copy.folder / f"results/small/runs/{RUNS[0]}")
    copy.snakemake("--config", "partial=true")
    text = (copy.folder / "results/small/report.md").read_text()
    assert "**Not complete**: 1 of 6 runs have no record" in text
    assert RUNS[0] in text.replace("\\_", "_")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "config/studies").glob("*.yaml")))
def test_every_study_is_a_target_that_can_be_planned(tmp_path, name):
    place = Workplace.make(tmp_path)
    studies = ROOT / "config/studies"
    output = place.snakemake(name, "-n", "--config", f"studies_dir={studies}", "studies=digits")
    counts = dict(re.findall(r"^(\S+) +(\d+)$", output, re.MULTILINE))
    loaded = study.load(studies / f"{name}.yaml")
    assert int(counts["train"]) == len(loaded.runs)
    assert int(counts["range_test"]) == sum(len(test.seeds) for test in loaded.range_tests.values())


def test_a_trial_is_kept_apart_and_says_so(copy):
    copy.snakemake("--config", "trial={epochs: 1, seeds: 1, train_samples: 100}")
    folder = copy.folder / "results/small-trial"
    assert "**This is a trial**" in (folder / "report.md").read_text()
    record = json.loads((folder / "runs/sgd-none-bs50-seed0/run.json").read_text())
    assert record["steps"] == 2 and record["samples"]["train"] == 100
    assert "Nothing to be done" in copy.snakemake("-n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--config", "studies=smal"),
            "error: --config: studies: unknown study (got 'smal'); did you mean 'small'?",
        ),
        (
            ("--config", "reslts=x"),
            "error: --config: unknown key (got 'reslts'); did you mean 'results'?",
        ),
        (
            ("--config", "data_dir=/nowhere"),
            "error: --config: data_dir: no such folder (got '/nowhere')",
        ),
        (
            ("--config", "trial={epoch: 2}"),
            "error: --config: trial: unknown key (got 'epoch'); did you mean 'epochs'?",
        ),
    ],
)
def test_bad_configuration_ends_before_any_job_in_one_line(tmp_path, arguments, message):
    place = Workplace.make(tmp_path)
    output = place.snakemake(*arguments, code=1)
    assert [line for line in output.splitlines() if line.startswith("error:")] == [
        line for line in output.splitlines() if line.startswith(message)
    ]
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 2", "epoch: 2", "run: unknown key (got 'epoch'); did you mean 'epochs'?"),
        ("epochs: 2", "epochs: two", "run.epochs: not usable (got 'two'); allowed: a whole number"),
        ("name: SGD", "name: SDG", "optimizers.sgd.name: unknown optimizer (got 'SDG'); did you mean 'SGD'?"),
        (
            "name: OneCycleLR",
            "name: OneCycle",
            "schedules.onecycle.name: unknown value (got 'OneCycle'); did you mean",
        ),
        ("batch_size: 50", "batch_size: 500", "batch_size: batch larger than the training set (got 500)"),
    ],
)
def test_a_bad_study_ends_before_any_job_in_one_line(tmp_path, old, new, message):
    place = Workplace.make(tmp_path)
    place.edit(old, new)
    output = place.snakemake(code=1)
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0] and "config/studies/small.yaml" in errors[0]
    assert not (tmp_path / "results").exists()


def test_truncated_data_ends_with_its_file_named_and_nothing_half_written(tmp_path):
    place = Workplace.make(tmp_path)
    place.edit("name: digits, validation: 200", "name: mnist, validation: 200")
    raw = tmp_path / "raw/MNIST/raw"
    raw.mkdir(parents=True)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name in names:
        (raw / f"{name}-ubyte.gz").write_bytes(b"\x1f\x8b cut")
    output = place.snakemake("--config", "data_dir=raw", code=1)
    assert any(line.count("ubyte.gz") and "error:" in line for line in output.splitlines()), output[-3000:]
    assert not list((tmp_path / "results/data").glob("mnist*/*"))


def test_a_vanished_study_argument_is_snakemakes_own_error(tmp_path):
    place = Workplace.make(tmp_path)
    assert "MissingRuleException" in place.snakemake("no-such-study", code=1)


def test_a_wrong_file_of_published_numbers_ends_before_any_job(tmp_path):
    place = Workplace.make(tmp_path)
    place.edit("title: A small study", "title: A small study\npublished: small")
    file = tmp_path / "config/published/small.csv"
    file.parent.mkdir()
    file.write_text("optimizer,value\nsgd,0.9\n")
    output = place.snakemake(code=1)
    (error,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert "published/small.csv: line 1: the column" in error and "is missing" in error
    assert not (tmp_path / "results").exists()
    file.write_text("optimizer,schedule,batch_size,lr,metric,value,train_seconds,source,revision,footnote\n")
    assert "train sgd-none-bs50-lr0.1-seed0" in place.planned()
    claims = file.with_name("claims.yaml")
    claims.write_text(
        "claims:\n- id: c\n  study: small\n  claim: So.\n  source: Page 1\n  tests:\n"
        "  - {form: null, relation: range_within, range_test: adam, answer: suggested_lr, high: 1}\n"
    )
    (error,) = [line for line in place.snakemake(code=1).splitlines() if line.startswith("error:")]
    assert "claims.0.tests.0.range_test: no such range test (got 'adam'); allowed: sgd" in error


def test_a_corrected_curve_is_drawn_again_and_nothing_else(tmp_path):
    place = Workplace.make(tmp_path)
    place.edit("title: A small study", "title: A small study\npublished: small")
    place.edit("    set: {schedule: none}\n", "    form: as-published\n    set: {schedule: none}\n")
    published = tmp_path / "config/published"
    (published / "curves").mkdir(parents=True)
    header = "optimizer,schedule,batch_size,lr,metric,value,train_seconds,source,revision,footnote\n"
    (published / "small.csv").write_text(header)
    (published / "curves/small.yaml").write_text(
        "- {optimizer: sgd, schedule: none, batch_size: 50, lr: 0.1, quantity: train_loss, file: c.csv,\n"
        "   source: a log, revision: first}\n"
    )
    curve = published / "curves/c.csv"
    curve.write_text("step,train_loss\n0,2.3\n1,2.2\n")
    place.snakemake()
    drawn = (tmp_path / "results/small/figures/replay.svg").read_bytes()
    curve.write_text("step,train_loss\n0,2.3\n1,2.1\n")
    assert "draw_figures" in place.planned() and "train " not in place.planned()
    place.snakemake()
    assert (tmp_path / "results/small/figures/replay.svg").read_bytes() != drawn


def test_a_configuration_of_the_command_line_is_read_as_data_too_and_named(tmp_path):
    place = Workplace.make(tmp_path)
    more = place.folder / "more.yaml"
    more.write_text("results: elsewhere\n")
    assert "elsewhere/small/report.html" in place.snakemake("-n", "--configfile", "more.yaml")
    for text, message in (
        ("results: a\nresults: b\n", "line 2: not valid YAML: the key 'results' stands twice"),
        ("__use_yte__: true\nresults: ?'else' + 'where'\n", "__use_yte__: not usable"),
        ("jobs_per_gpu: 0\n", "jobs_per_gpu: not usable (got 0)"),
    ):
        more.write_text(text)
        assert f"more.yaml: {message}" in place.snakemake("-n", "--configfile", "more.yaml", code=1)
