"""Claims: what is refused and how it is said; verdicts by hand; the section in both reports."""

import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rangefinder import cells, claims, findings, report, shown_findings, study, tables
from rangefinder.errors import InputError
from rangefinder.statistics import Interval
from test_published import planned
from test_published import run as base_run

ROOT = Path(__file__).resolve().parents[2]
PLAN = planned(
    *itertools.product(("sgd", "lars"), ("none",), (64, 128, 256), (0.1,)),
    form="as-published",
)


def run(entry, accuracies, *, lr=0.1, seconds=1.0, **options):
    """A record with the columns that claims measure; `lr` is one number, or one for each epoch."""
    record = base_run(entry, accuracies, **options)
    epochs = len(record["epochs"]["epoch"])
    record["epochs"]["lr"] = np.broadcast_to(lr, epochs).astype(float)
    record["run"]["lr"] = {"value": float(np.max(lr))}
    record["machine"] = {"epochs": [{"epoch": e + 1, "train_s": seconds} for e in range(epochs)]}
    return record


def records(plan, values, **options):
    """Records of the cells in `values`: (optimizer, batch size) → final accuracy by seed; None has no record."""
    made = []
    for entry in plan["runs"]:
        axes = dict(entry["axes"])
        wanted = values.get((axes["optimizer"], axes["batch_size"]))
        accuracy = None if wanted is None else wanted[entry["seed"]]
        if accuracy == "diverged":
            made.append(run(entry, [0.1], diverged=True, **options))
        elif accuracy is not None:
            made.append(run(entry, [0.5, accuracy], **options))
    return made


def claim(*tests, **changes):
    return {"id": "c", "study": "s", "claim": "It is so.", "source": "Page 1", "tests": list(tests)} | changes


def answered(folder, test, plan=PLAN, runs=(), ranges=()):
    (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim(test)]}))
    (finding,) = findings.findings(plan, cells.group(plan, runs), ranges, directory=folder)
    return finding


A, B = {"optimizer": "lars", "batch_size": 64}, {"optimizer": "sgd", "batch_size": 64}
HIGHER = {
    "form": "as-published",
    "relation": "higher",
    "metric": "final_test_accuracy",
    "a": A,
    "b": B,
}
WITHIN = {"form": "as-published", "relation": "within", "metric": "final_test_accuracy", "a": A, "low": 0.9}
RANGE = {"form": None, "relation": "range_within", "range_test": "t", "answer": "suggested_lr", "low": 0.01}


# --- what is refused -----------------------------------------------------------------------------------


def without(test, key):
    return {name: value for name, value in test.items() if name != key}


UNUSABLE = [
    (
        [claim(HIGHER, text="x")],
        "claims.0: unknown key (got 'text'); did you mean 'tests'?; allowed: claim, id, source, study, tests",
    ),
    ([without(claim(HIGHER), "source")], "claims.0: the key 'source' is missing"),
    (
        [claim(HIGHER), claim(HIGHER)],
        "claims.1.id: the same id as claims.0 (got 'c'); allowed: one claim for each id",
    ),
    (
        [claim(HIGHER | {"relation": "hihger"})],
        "claims.0.tests.0.relation: unknown value (got 'hihger'); did you mean 'higher'?; "
        "allowed: higher, lower, ratio, within, best_within, range_within",
    ),
    (
        [claim(HIGHER | {"by": "1 point"})],
        "claims.0.tests.0.by: not usable (got '1 point'); allowed: a number",
    ),
    (
        [claim(HIGHER | {"high": 1})],
        "claims.0.tests.0: not a key of the relation higher (got 'high'); allowed: metric, a, b, by",
    ),
    (
        [claim(without(HIGHER, "b"))],
        "claims.0.tests.0: the key 'b' is missing; allowed: with the relation higher: metric, a, b, by",
    ),
    (
        [claim(without(WITHIN, "low"))],
        "claims.0.tests.0: not a span of values (got {'low': None, 'high': None}); "
        "allowed: low, high, or both with low at most high",
    ),
    (
        [claim(WITHIN | {"high": 0.1})],
        "claims.0.tests.0: not a span of values (got {'low': 0.9, 'high': 0.1}); "
        "allowed: low, high, or both with low at most high",
    ),
    (
        [claim(HIGHER | {"a": {"optimizer": "lasr"}})],
        "claims.0.tests.0.a.optimizer: no such cell in the form as-published (got 'lasr'); did you mean 'lars'?; "
        "allowed: sgd, lars",
    ),
    (
        [claim(HIGHER | {"a": {"optimizer": "lars", "batch_size": [64, 96]}})],
        "claims.0.tests.0.a.batch_size: no such cell in the form as-published (got 96); allowed: 64, 128, 256",
    ),
    (
        [claim(HIGHER | {"b": {"optimizer": "sgd"}})],
        "claims.0.tests.0.b: names 3 cells (got {'optimizer': 'sgd'}); allowed: a selection of one cell",
    ),
    (
        [claim(RANGE | {"range_test": "u"})],
        "claims.0.tests.0.range_test: no such range test (got 'u'); allowed: t",
    ),
    (
        [claim(RANGE | {"answer": "steep"})],
        "claims.0.tests.0.answer: no such answer (got 'steep'); "
        "allowed: lr_min, suggested_lr, lr_max, fastai_steep",
    ),
]


def lr_range(value=0.03, low=0.02, high=0.045, status="ok"):
    answer = {"value": value, "low": low, "high": high}
    ends = {"lr_min": None, "suggested_lr": answer if value else None, "lr_max": None}
    steep = {"fastai_steep": {"value": 0.2, "low": None, "high": None}}
    return {"range_test": "t", "seeds": [0, 1, 2], "status": status, "rules": steep} | ends


@pytest.mark.parametrize(("content", "message"), UNUSABLE, ids=[case[1][:50] for case in UNUSABLE])
def test_what_cannot_be_used_is_named(tmp_path, content, message):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": content}))
    with pytest.raises(InputError) as error:
        findings.findings(PLAN, cells.group(PLAN, []), [lr_range()], directory=tmp_path)
    assert str(error.value) == f"{tmp_path}/claims.yaml: {message}"


def test_claims_of_another_study_and_a_folder_without_claims(tmp_path):
    assert claims.read("s", directory=tmp_path) == []
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim(HIGHER, study="other")]}))
    assert claims.read("s", directory=tmp_path) == []


# --- verdicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "low", "high", "widen", "verdict"),
    [
        (Interval(3, 0.5, 0.4, 0.6), 0.3, None, 0, "holds"),
        (Interval(3, 0.5, 0.4, 0.6), 0.45, None, 0, "undecided"),
        (Interval(3, 0.5, 0.4, 0.6), 0.7, None, 0, "does not hold"),
        (Interval(3, 0.5, 0.4, 0.6), None, 0.3, 0, "does not hold"),
        (Interval(3, 0.5, 0.4, 0.6), 0.4, 0.6, 0, "holds"),
        (Interval(1, 0.5, None, None), 0.4, None, 0.05, "holds"),
        (Interval(1, 0.5, None, None), 0.4, None, 0.2, "undecided"),
        (Interval(3, 0.5, 0.49, 0.51), 0.4, None, 0.2, "undecided"),
        (Interval(0, None, None, None), 0.4, None, 0.2, "not run"),
    ],
)
def test_a_value_within_a_span(interval, low, high, widen, verdict):
    assert findings.decide(interval, low, high, widen) == verdict


# Pairwise differences 0.01, 0.02, 0.03: mean 0.02, half t(0.975, 2)·0.01/√3 = 0.02484.
SPREAD = {("lars", 64): (0.81, 0.92, 0.73), ("sgd", 64): (0.80, 0.90, 0.70)}


@pytest.mark.parametrize(
    ("by", "verdict"),
    [
        (0, "undecided"),
        (-0.0047, "undecided"),
        (-0.0049, "holds"),
        (0.0447, "undecided"),
        (0.0449, "does not hold"),
    ],
)
def test_higher_pairs_by_seed(tmp_path, by, verdict):
    finding = answered(tmp_path, HIGHER | {"by": by}, runs=records(PLAN, SPREAD))
    assert finding.verdict == verdict
    assert finding.difference.mean == pytest.approx(0.02)
    assert finding.difference.half == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-6)
    assert len(finding.runs) == 6


@pytest.mark.parametrize(
    ("relation", "theirs", "verdict"),
    [
        # One seed each, on 10,000 images: two standard errors of the less sure of the two, 0.6 points at 90 %.
        ("higher", 0.8938, "holds"),  # of it 0.62
        ("higher", 0.8945, "undecided"),
        ("higher", 0.903, "undecided"),
        ("higher", 0.907, "does not hold"),
        ("lower", 0.907, "holds"),
        ("lower", 0.8930, "does not hold"),
    ],
)
def test_one_seed_is_decided_beyond_the_sampling_error(tmp_path, relation, theirs, verdict):
    values = {("lars", 64): (0.9, None, None), ("sgd", 64): (theirs, None, None)}
    finding = answered(tmp_path, HIGHER | {"relation": relation}, runs=records(PLAN, values))
    assert finding.verdict == verdict
    assert "2/3 missing" in finding.note


LOST = ("diverged",) * 3
KEPT = (0.8, 0.8, 0.8)


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (LOST, KEPT, "does not hold"),
        (KEPT, LOST, "holds"),
        (LOST, LOST, "undecided"),
        ((0.9, "diverged", 0.9), KEPT, "undecided"),
        (KEPT, (0.1, "diverged", 0.1), "undecided"),
        (None, KEPT, "not run"),
        (KEPT, None, "not run"),
        (LOST, None, "not run"),
        (None, LOST, "not run"),
        (LOST, (0.8, None, 0.8), "not run"),
        (("diverged", None, None), KEPT, "not run"),
    ],
)
def test_runs_that_diverged_or_do_not_exist(tmp_path, ours, theirs, verdict):
    values = {("lars", 64): ours, ("sgd", 64): theirs}
    finding = answered(tmp_path, HIGHER, runs=records(PLAN, values))
    assert finding.verdict == verdict
    assert ("diverged" in finding.note) == ("diverged" in (*(ours or ()), *(theirs or ())))


@pytest.mark.parametrize(
    ("metric", "span", "runs", "verdict"),
    [
        ("final_test_accuracy", {"high": 0.5}, LOST, "holds"),
        ("final_test_accuracy", {"low": 0.5}, LOST, "does not hold"),
        ("final_test_accuracy", {"low": 0.1, "high": 0.5}, LOST, "does not hold"),
        ("final_test_loss", {"low": 0.5}, LOST, "holds"),
        ("final_test_loss", {"high": 0.5}, LOST, "does not hold"),
        ("final_test_accuracy", {"high": 0.5}, (0.9, "diverged", "diverged"), "undecided"),
        ("final_test_accuracy", {"high": 0.5}, ("diverged", None, "diverged"), "not run"),
        # The best of the epochs before it diverged may have been higher.
        ("best_test_accuracy", {"high": 0.5}, LOST, "undecided"),
        ("lr_at_lowest_test_loss", {"high": 0.5}, LOST, "undecided"),
    ],
)
def test_a_span_of_values_where_runs_diverged(tmp_path, metric, span, runs, verdict):
    test = without(WITHIN, "low") | span | {"metric": metric}
    finding = answered(tmp_path, test, runs=records(PLAN, {("lars", 64): runs}))
    assert finding.verdict == verdict and "diverged" in finding.note


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [(0.799, "holds"), (0.78, "does not hold"), (None, "not run")],
)
def test_every_batch_size_must_stay_within_a_point_of_the_base_line(tmp_path, largest, verdict):
    values = {("lars", 64): KEPT, ("lars", 128): KEPT, ("sgd", 64): KEPT}
    if largest:
        values |= {("lars", 256): (largest,) * 3}
    test = HIGHER | {"a": {"optimizer": "lars", "batch_size": [64, 128, 256]}, "by": -0.01}
    finding = answered(tmp_path, test, runs=records(PLAN, values))
    assert finding.verdict == verdict
    assert finding.note.startswith("the deciding one of 3 cells")
    if largest == 0.78:
        assert "batch 256" in finding.a and "does not hold for 1, holds for 2" in finding.note


@pytest.mark.parametrize(
    ("slower", "verdict"), [(1.55, "holds"), (1.7, "does not hold"), (1.1, "does not hold")]
)
def test_a_ratio_of_times(tmp_path, slower, verdict):
    runs = records(PLAN, {("sgd", 64): KEPT}, seconds=2.0)
    runs += records(PLAN, {("lars", 64): KEPT}, seconds=2 * slower)
    test = without(HIGHER, "metric") | {
        "relation": "ratio",
        "metric": "seconds_per_epoch",
        "low": 1.5,
        "high": 1.6,
    }
    finding = answered(tmp_path, test, runs=runs)
    assert (finding.verdict, finding.difference.mean) == (verdict, pytest.approx(slower))


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("lr_growth_per_epoch", 2.25, None, "does not hold"),  # 1.5 between two epochs
        ("lr_growth_per_epoch", 1.4999, 1.5001, "holds"),
        ("lr_at_lowest_test_loss", 0.1, 0.2, "holds"),  # of the second epoch: 0.15
        ("test_loss_change", None, 0, "does not hold"),  # 0.9 − 0.8
        ("lowest_test_loss", None, 0.31, "holds"),  # 0.3
        ("lowest_test_loss", None, 0.302, "undecided"),
    ],
)
def test_metrics_by_hand(tmp_path, metric, low, high, verdict):
    entry = PLAN["runs"][9]
    runs = [run(entry, [0.1, 0.5, 0.6], losses=[0.8, 0.3, 0.9], lr=[0.1, 0.15, 0.225])]
    assert dict(entry["axes"])["optimizer"] == "lars"
    test = WITHIN | {"metric": metric, "low": low, "high": high}
    assert answered(tmp_path, test, runs=runs).verdict == verdict


@pytest.mark.parametrize(
    ("inside", "verdict"),
    [
        ((0.915, 0.92, 0.925), "holds"),
        ((0.885, 0.88, 0.875), "does not hold"),
        ((0.88, 0.93, 0.90), "undecided"),
        (None, "not run"),
    ],
)
def test_the_best_learning_rate(tmp_path, inside, verdict):
    plan = planned(*(("sgd", "none", 64, lr) for lr in (1e-5, 1e-3, 1e-1)))
    rows = {1e-5: inside, 1e-3: (0.9, 0.9, 0.9), 1e-1: (0.1, 0.1, 0.1)}
    runs = []
    for entry in plan["runs"]:
        rate = dict(entry["axes"])["lr"]
        if rows[rate]:
            runs.append(run(entry, [rows[rate][entry["seed"]]], lr=rate))
    test = WITHIN | {"relation": "best_within", "a": {"optimizer": "sgd"}, "low": None, "high": 1e-4}
    finding = answered(tmp_path, test, plan, runs)
    assert finding.verdict == verdict
    if inside:
        assert ("LR 1e-05" in finding.a, "LR 0.001" in finding.b) == (True, True)


@pytest.mark.parametrize(
    ("entry", "low", "high", "verdict"),
    [
        (lr_range(), 0.01, 0.1, "holds"),
        (lr_range(), 0.03, None, "undecided"),
        (lr_range(), None, 0.01, "does not hold"),
        (lr_range(None, status="no_descent"), 0.01, None, "undecided"),
    ],
)
def test_an_lr_range(tmp_path, entry, low, high, verdict):
    finding = answered(tmp_path, RANGE | {"low": low, "high": high}, ranges=[entry])
    assert (finding.verdict, finding.runs) == (verdict, ("lr_range/t",))
    assert answered(tmp_path, RANGE).verdict == "not run"


def test_a_range_test_without_a_record_is_not_run_where_records_may_be_missing(tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim(RANGE | {"range_test": "u"})]}))
    group = cells.group(PLAN, [])
    (finding,) = findings.findings(PLAN, group, [lr_range()], directory=tmp_path, partial=True)
    assert finding.verdict == "not run"


def test_a_trial_answers_nothing(tmp_path):
    plan = PLAN | {"trial": {"epochs": 1}}
    finding = answered(tmp_path, HIGHER, plan, records(plan, SPREAD))
    assert (finding.verdict, finding.runs, finding.ours.mean) == ("not run", (), None)
    assert answered(tmp_path, RANGE, plan, ranges=[lr_range()]).verdict == "not run"


# --- what is shown -------------------------------------------------------------------------------------


def test_the_claims_here_fit_their_studies():
    written = yaml.safe_load((ROOT / "config/published/claims.yaml").read_text())["claims"]
    answers = []
    for name in dict.fromkeys(entry["study"] for entry in written):
        record = study.load(ROOT / f"config/studies/{name}.yaml").record()
        answers += findings.findings(record, cells.group(record, []), [])
    assert {finding.claim["id"] for finding in answers} == {entry["id"] for entry in written}
    assert {finding.verdict for finding in answers} == {"not run"}
    assert all(shown_findings.comparison(finding) for finding in answers)


def test_table_and_words_carry_the_same_numbers(tmp_path):
    finding = answered(tmp_path, HIGHER | {"by": -0.01}, runs=records(PLAN, SPREAD))
    row = pd.read_csv(io.StringIO(tables.csv(shown_findings.table([finding])))).iloc[0]
    assert (row["verdict"], row["seeds"], row["form"]) == ("holds", 3, "as-published")
    assert row["difference"] == pytest.approx(0.02) and row["a_mean"] == pytest.approx(0.82)
    assert row["runs"].split() == list(finding.runs)
    assert shown_findings.comparison(finding) == (
        "final test accuracy of lars none, batch 64, LR 0.1: at most 1 percentage point lower than that of sgd none, "
        "batch 64, LR 0.1"
    )
    assert shown_findings.numbers(finding) == "82.00 ± 23.70 % against 80.00 ± 24.84 %: +2.00 ± 2.48 points"


@pytest.mark.parametrize("page", ["_findings.html.j2", "_findings.md.j2"])
def test_the_section_says_verdict_source_and_records(tmp_path, page):
    finding = answered(tmp_path, HIGHER, runs=records(PLAN, SPREAD))
    nasty = finding.claim | {"claim": "<b>A | B</b>"}
    answers = shown_findings.shown([findings.replace(finding, claim=nasty)])
    environment = report.environment(ROOT / "report", html=page.endswith("html.j2"))
    text = environment.get_template(page).render(
        findings=answers, csv={"findings": "a"}, study={"folder": "s", "trial": None}
    )
    assert "undecided" in text and "Page 1" in text and "runs/lars-none-64-0.1-seed2/run.json" in text
    assert "<b>A" not in text.replace("\\<b", "")
