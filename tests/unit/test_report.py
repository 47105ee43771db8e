"""Tables and report from records: what is said, what is escaped, and that bytes repeat."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rangefinder import cells, records, report, summary, tables, unfinished
from rangefinder.errors import RunError
from rangefinder.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "report"


def record(schedule, batch, seed, accuracy, *, diverged=None, seconds=1.0):
    """A run record as `records.read_run` gives it, with three epochs that climb to the accuracy."""
    climb = np.array([accuracy - 0.2, accuracy, accuracy - 0.01])
    epochs = {name: np.full(3, 0.5) for name in records.EPOCH_COLUMNS}
    epochs |= {"epoch": np.arange(1.0, 4), "test_accuracy": climb, "validation_accuracy": climb}
    result = {
        "final_test_accuracy": None if diverged else climb[-1],
        "final_test_loss": None if diverged else 0.5,
        "final_validation_accuracy": None if diverged else climb[-1],
        "final_validation_loss": None if diverged else 0.5,
        "best_validation_accuracy": accuracy,
        "best_validation_epoch": 2,
        "test_accuracy_at_best_validation": accuracy,
        "best_test_accuracy": accuracy,
        "best_test_epoch": 2,
    }
    divergence = {"step": diverged, "epoch": 3, "last_finite_loss": 7.5, "cause": "non_finite_loss"}
    return {
        "run": {
            "run": f"sgd-{schedule}-bs{batch}-seed{seed}",
            "status": "diverged" if diverged else "completed",
            "divergence": divergence if diverged else None,
            "results": result,
            "parameters": {"optimizer": {"name": "SGD"}},
            "lr": {"value": 0.1},
            "samples": {"train": 1000, "validation": 100, "test": 100},
            "provenance": {"engine_digest": "e" * 64, "data_digest": "d" * 64, "version": "1"},
        },
        "machine": {
            "device": "cpu",
            "environment": {"python": "3", "torch": "2"},
            "clocks": {"evaluate_s": 0.5, "startup_s": 2.0},
            "epochs": [{"epoch": epoch, "train_s": seconds, "evaluate_s": 0.1} for epoch in (1, 2, 3)],
            "resumed": 0,
        },
        "epochs": epochs,
        "steps": {"step": np.arange(10.0), "lr": np.full(10, 0.1), "loss": np.ones(10)},
    }


def study(runs, **changes):
    planned = [
        {
            "run": f"sgd-{schedule}-bs{batch}-seed{seed}",
            "form": None,
            "sweeps": ["s"],
            "axes": [
                ["optimizer", "sgd"],
                ["schedule", schedule],
                ["batch_size", batch],
                ["lr", "suggested"],
            ],
            "seed": seed,
            "range_test": "sgd",
            "epochs": 3,
            "spec_digest": "x",
        }
        for schedule, batch, seed in runs
    ]
    base = {
        "name": "s",
        "folder": "s",
        "trial": None,
        "title": "T",
        "description": "D",
        "notes": [],
        "published": None,
        "confirmations": [],
    }
    return (
        base | {"optimizers": ["sgd"], "schedules": ["none", "step"], "sweeps": [], "runs": planned} | changes
    )


@pytest.fixture
def example():
    """`none` at two batch sizes and `step` at one; one run of `step` diverged, one is missing."""
    plan = [
        ("none", 64, 0),
        ("none", 64, 1),
        ("none", 64, 2),
        ("none", 128, 0),
        ("none", 128, 1),
        ("none", 128, 2),
    ]
    plan += [("step", 64, 0), ("step", 64, 1), ("step", 64, 2), ("step", 64, 3)]
    accuracy = {
        ("none", 64): (0.91, 0.92, 0.93),
        ("none", 128): (0.89, 0.89, 0.89),
        ("step", 64): (0.95, 0.96, 0.97),
    }
    runs = [
        record(s, b, k, accuracy[s, b][k], seconds=b / 64) for s, b, k in plan[:-1] if (s, k) != ("step", 2)
    ]
    runs.append(record("step", 64, 2, 0.3, diverged=412))
    return study(plan), runs


def test_a_table_without_rows_has_the_columns_of_one_with_rows(example):
    one = cells.group(*example)
    entry = {"range_test": "sgd", "optimizer": "SGD", "batch_size": 64, "steps_per_decade": 9.0, "seeds": [0]}
    entry |= {"status": "ok", "lr_min": None, "lr_max": None, "suggested_lr": None, "rules": {}}
    for full, empty in (
        (tables.differences(one), tables.differences(cells.group(example[0], []))),
        (tables.largest_batch(one), tables.largest_batch([])),
        (tables.lr_ranges([entry]), tables.lr_ranges([])),
        (tables.finders([entry]), tables.finders([])),
    ):
        assert len(full) and empty.empty
        assert tables.csv(empty) == tables.csv(full).splitlines()[0] + "\n"


def test_a_diverged_run_is_counted_and_never_averaged_in(example):
    frame = tables.accuracy(cells.group(*example))
    row = frame[frame["schedule"] == "step"].iloc[0]
    assert (row["runs"], row["completed"], row["diverged"], row["missing"]) == (4, 2, 1, 1)
    assert row["status"] == "1/4 diverged at step 412; 1/4 missing"
    expected = mean_interval([0.94, 0.95])
    assert row["final_test_accuracy"] == pytest.approx(expected.mean, rel=1e-12)
    assert row["final_test_accuracy_high"] == pytest.approx(expected.high, rel=1e-12)


def test_times_are_of_training_alone(example):
    frame = tables.time(cells.group(*example)).set_index(["schedule", "batch_size"])
    assert frame.loc[("none", 64), "to_train_s"] == pytest.approx(3.0)
    assert frame.loc[("none", 64), "to_best_validation_s"] == pytest.approx(2.0)
    assert frame.loc[("none", 128), "images_per_s"] == pytest.approx(1000 / 2)
    # The baseline is the best mean at batch 64 (0.945) less a point: 0.89 never gets there.
    assert frame.loc[("none", 128), "to_baseline_s"] == "not reached"
    assert (
        frame.loc[("none", 64), "to_baseline_s"] == "not reached"
        and frame.loc[("none", 64), "reached"] == "0/3"
    )
    # Two of three get there in their second epoch; the third diverged.
    assert (
        frame.loc[("step", 64), "to_baseline_s"] == "not reached"
        and frame.loc[("step", 64), "reached"] == "2/3"
    )


def test_differences_are_paired_by_seed(example):
    frame = tables.differences(cells.group(*example))
    (row,) = frame.to_dict("records")
    assert (row["best_schedule"], row["schedule"], row["pairs"]) == ("step", "none", 2)
    assert row["difference"] == pytest.approx(-0.04)  # 0.90 − 0.94 and 0.91 − 0.95
    assert row["real"] == "yes"


def test_the_largest_batch_that_holds(example):
    (row,) = tables.largest_batch(cells.group(*example)).to_dict("records")
    assert (row["baseline_batch"], row["largest_batch"], row["of"]) == (64, 64, 128)
    (row,) = tables.largest_batch(cells.group(*example), margin=0.05).to_dict("records")
    assert row["largest_batch"] == 128


def test_the_largest_batch_says_how_sure_it_is(example):
    (row,) = tables.largest_batch(cells.group(*example), margin=0.05).to_dict("records")
    # Paired by seed: 0.89 less 0.91, 0.92 and 0.93.
    expected = mean_interval([-0.02, -0.03, -0.04])
    assert row["difference"] == pytest.approx(expected.mean)
    assert row["difference_low"] == pytest.approx(expected.low) and expected.low < -0.05
    assert row["sure"] == "no"
    (row,) = tables.largest_batch(cells.group(*example), margin=0.06).to_dict("records")
    assert row["sure"] == "yes"


def answers(record, runs):
    grouped = cells.group(record, runs)
    groups = report.context(record, grouped, runs, [], [])["summary"]
    return {group["question"]: group["answers"] for group in groups}


def test_schedules_are_compared_at_the_same_batch_and_a_diverged_one_is_left_out(example):
    record_, runs = example
    assert "Which schedule?" not in answers(record_, runs)  # `step` diverged: `none` has no rival
    runs = [run for run in runs if run["run"]["status"] == "completed"]
    (answer,) = answers(record_, runs)["Which schedule?"]
    assert answer["topic"] == "sgd, batch 64"
    # By seed +4 and +4 points over seeds 0 and 1: an interval without width leaves out zero.
    assert (answer["headline"], answer["sure"]) == ("step", ("good", "real"))
    assert (
        "+4.00 ± 0.00 points over “none”, the next" in answer["text"]
        and "not told apart" not in answer["text"]
    )


@pytest.mark.parametrize(
    ("low", "high", "sure"),
    [(0.02, 0.05, ("good", "found")), (0.02, 0.2, ("warn", "uncertain")), (None, None, ("warn", "one seed"))],
)
def test_a_suggestion_whose_interval_leaves_the_usable_range_is_uncertain(low, high, sure):
    entry = {"range_test": "sgd", "optimizer": "SGD", "batch_size": 64, "seeds": [0, 1], "status": "ok"}
    for name, value in (("lr_min", 0.01), ("suggested_lr", 0.03), ("lr_max", 0.1)):
        entry[name] = {"value": value, "low": low, "high": high, "factor": None}
    (group,) = summary.summary([entry], [], {"largest_batch": tables.largest_batch([])})
    assert group["answers"][0]["sure"] == sure and group["answers"][0]["headline"] == "0.03"


def test_a_trial_says_what_it_took_for_an_lr_that_was_not_found(example):
    record_, runs = example
    entry = {"range_test": "sgd", "optimizer": "SGD", "batch_size": 64, "seeds": [0], "status": "diverged"}
    entry |= {"lr_min": None, "suggested_lr": None, "lr_max": None, "steps_per_decade": 10, "rules": {}}
    entry["provenance"] = runs[0]["run"]["provenance"]
    taken = "runs of this trial took 0.0316, the middle of the sweep, in its place"
    grouped = cells.group(record_, runs)

    def answer():
        return report.context(record_, grouped, runs, [entry], [])["summary"][0]["answers"][0]

    assert answer()["headline"] == "no answer" and taken not in answer()["text"]
    runs[0]["run"]["parameters"]["stand_in_lr"] = 0.0316
    runs[0]["run"]["lr"]["range_test"] = "sgd"
    assert taken in answer()["text"]


def test_schedules_that_cannot_be_told_apart_share_the_headline(example):
    record_, runs = example
    runs = [run for run in runs if run["run"]["status"] == "completed"]
    changed = next(run for run in runs if run["run"]["run"] == "sgd-step-bs64-seed0")
    changed["run"]["results"]["final_test_accuracy"] -= 0.03  # now +1 and +4 points: 2.5 ± 19
    (answer,) = answers(record_, runs)["Which schedule?"]
    assert (answer["headline"], answer["sure"]) == ("step or none", ("warn", "not told apart"))


def test_many_batch_sizes_are_told_in_one_answer_the_best_ones():
    sizes = (32, 64, 128, 256, 512, 1024, 2048)
    plan = [(schedule, batch, seed) for schedule in ("none", "step") for batch in sizes for seed in (0, 1)]
    # `step` is a point above `none`, at 512 and 2048 below; batch 128 is the best.
    runs = []
    for schedule, batch, seed in plan:
        accuracy = 0.9 - 0.01 * abs(sizes.index(batch) - 2) + 0.001 * seed
        accuracy += 0.01 if (schedule == "step") != (batch in (512, 2048)) else 0
        runs.append(record(schedule, batch, seed, accuracy))
    few = [run for run in plan if run[1] <= 1024]
    assert (
        len(answers(study(few), [run for run in runs if "2048" not in run["run"]["run"]])["Which schedule?"])
        == 6
    )
    (answer,) = answers(study(plan), runs)["Which schedule?"]
    assert (answer["topic"], answer["headline"]) == ("sgd, best at batch 128", "step")
    assert answer["text"].startswith("highest is “step” with 90.05")
    assert answer["text"].endswith(
        "; highest at the other batch sizes: “step” (batch 32, 64, 256, 1024), “none” (batch 512, 2048), "
        "really so at 6 of 6"
    )


def test_every_number_of_a_cell_leads_to_the_records_of_its_runs(example):
    _, html = pages(*example)
    for seed in (0, 1, 2):
        run = f"sgd-none-bs64-seed{seed}"
        assert f'href="runs/{run}/run.json" aria-label="record of {run}"' in html
        assert f'href="runs/{run}/machine.json"' in html
    assert 'href="runs/sgd-step-bs64-seed3/' not in html  # missing


def test_batches_are_ordered_as_numbers(example):
    shown = [cell.axes["batch_size"] for cell in cells.group(*example) if cell.axes["schedule"] == "none"]
    assert shown == [64, 128]


def pages(study_record, runs, **options):
    context = report.context(study_record, cells.group(study_record, runs), runs, [], [], **options)
    return report.render_markdown(context, TEMPLATES), report.render_html(context, {}, TEMPLATES)


def test_the_report_names_what_diverged_and_what_is_missing(example):
    markdown, html = pages(*example)
    assert "1 of 10 runs have no record" in markdown and "sgd-step-bs64-seed3" in markdown
    assert "sgd-step-bs64-seed2</a> at step 412 (epoch 3, last finite loss 7.500)" in html
    assert "1/4 diverged at step 412; 1/4 missing" in html


def test_the_report_says_why_a_run_is_missing(example, tmp_path):
    record, runs = example
    entry = record["runs"][-1]
    spec = {"study": "s", "run": entry["run"], "seed": 3}
    with pytest.raises(RunError), unfinished.noted(tmp_path / "unfinished", spec, entry["spec_digest"]):
        raise RunError("two of | four <processes> died")
    reasons = unfinished.reasons(tmp_path, record, [entry["run"]])
    markdown, html = pages(record, runs, unfinished=reasons)
    assert f"no record: {entry['run']} (failed: two of \\| four \\<processes\\> died)." in markdown
    assert f"no record: {entry['run']} (failed: two of | four &lt;processes&gt; died)." in html

    entry["spec_digest"] = "another"
    assert unfinished.reasons(tmp_path, record, [entry["run"]]) == {}
    (tmp_path / "checkpoints" / f"{entry['run']}-0123456789abcdef").mkdir(parents=True)
    reasons = unfinished.reasons(tmp_path, record, [entry["run"]])
    assert reasons == {entry["run"]: "training, or killed; a checkpoint is kept"}


def test_mixed_engines_are_a_warning(example):
    record, runs = example
    assert "Mixed engine versions" not in pages(record, runs)[1]
    runs[0]["run"]["provenance"]["engine_digest"] = "f" * 64
    assert "Mixed engine versions" in pages(record, runs)[1]


def test_a_trial_says_so_on_top(example):
    record, runs = example
    markdown, html = pages(record | {"trial": {"epochs": 2}}, runs)
    assert markdown.index("This is a trial") < markdown.index("## Summary")
    assert html.index("This is a trial") < html.index("Summary</h2>")


def test_user_text_is_harmless(example):
    record, runs = example
    nasty = "<script>alert(1)</script> | a_b* [x](javascript:y)"
    markdown, html = pages(record | {"title": nasty, "description": nasty, "notes": [nasty]}, runs)
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert "<script" not in markdown.replace("\\<script", "")
    assert "\\[x\\](javascript" in markdown


REBUILD = """
import sys
sys.path[:0] = [{scripts!r}, {tests!r}]
import hashlib
from test_report import example, pages
from rangefinder import batch_figures, cells, curve_figures
record, runs = example.__wrapped__() if hasattr(example, "__wrapped__") else example._get_wrapped_function()()
grouped = cells.group(record, runs)
drawn = [curve_figures.loss_curves(grouped), curve_figures.lr_schedules(grouped), batch_figures.batch_size(grouped)]
texts = [*pages(record, runs), *sum(drawn, [])]
print(hashlib.sha256("".join(texts).encode()).hexdigest())
"""


def test_bytes_repeat_under_another_time_zone_locale_and_hash_seed(tmp_path):
    code = REBUILD.format(scripts=str(ROOT / "workflow/scripts"), tests=str(Path(__file__).parent))
    digests = set()
    for seed, zone, locale in (("0", "UTC", "C"), ("1", "Asia/Tokyo", "tr_TR.UTF-8")):
        variables = {
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "LC_ALL": locale,
            "PATH": "",
            "HOME": str(tmp_path / seed),
        }
        (tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / seed,
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
