"""The LR range: hostile sweeps give a status or an error, never a number that looks good; the score is kept."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rangefinder import lr_range, records
from rangefinder.errors import InputError
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/oracle"))
import score  # noqa: E402

LR = np.logspace(-5, 1, 301)
RNG = np.random.default_rng(0)
NOISE = 0.02 * RNG.standard_normal(301)
FALL = 0.5 + 1.8 / (1 + (LR / 1e-2) ** 2) + NOISE


def bowl(centre=1e-2, wall=1.0):
    """Falls around `centre`, explodes above `wall`."""
    return 0.5 + 1.8 / (1 + (LR / centre) ** 2) + (LR / wall) ** 4 + NOISE


def test_a_plain_sweep_gives_a_range_around_its_basin():
    found = lr_range.extract_one(LR, bowl())
    assert found.status == "ok"
    assert found.lr_min < found.suggested_lr < found.lr_max
    assert found.lr_min == pytest.approx(1e-2, rel=0.3)  # half of the descent is done at the law's own scale


@pytest.mark.parametrize(
    ("loss", "statuses"),
    [
        (np.full(301, np.nan), {"diverged"}),
        (np.full(301, np.inf), {"diverged"}),
        (np.full(301, 2.3), {"no_descent"}),
        (2.3 + NOISE, {"no_descent"}),
        (np.concatenate([[np.inf], bowl()[1:]]), {"diverged"}),
        (2.3 - 0.3 * np.arange(301) / 50 + NOISE, {"right_censored"}),
        (2.3 + 0.01 * np.arange(301), {"left_censored"}),
        (FALL, {"right_censored"}),
    ],
    ids=["nan", "inf", "constant", "noise", "inf-first", "falls-to-the-end", "rises", "no-wall"],
)
def test_a_sweep_without_an_answer_gives_no_number(loss, statuses):
    found = lr_range.extract_one(LR, loss)
    assert found.status in statuses
    assert (found.lr_min, found.suggested_lr, found.lr_max) == (None, None, None)
    whole = lr_range.extract([{"seed": 0, "lr": LR, "loss": loss}])
    assert (whole["lr_min"], whole["suggested_lr"], whole["lr_max"]) == (None, None, None)


def test_a_spike_at_the_start_changes_little():
    spiked = bowl()
    spiked[2] = 40.0
    clean, found = (lr_range.extract_one(LR, loss) for loss in (bowl(), spiked))
    assert found.status == "ok"
    assert abs(np.log10(found.suggested_lr / clean.suggested_lr)) < 0.05


@pytest.mark.parametrize("height", [1e3, 1e30, np.inf])
def test_a_jump_within_one_step_is_no_growth_rate(height):
    """The loss is at its least up to 0.1, and beyond it is `height`: whatever that is, the range ends near 0.1."""
    loss = np.where(LR <= 0.1, FALL, height)
    found = lr_range.extract_one(LR, loss)
    assert found.status == "ok" and found.truncated_at_lr == LR[LR > 0.1][0]
    assert 0.1 / 8 < found.lr_max <= 0.1 * 10**0.05  # the rise is seen two steps late
    assert found.lr_min <= found.suggested_lr <= found.lr_max and found.suggested_lr > 0.1 / 20


def test_one_point_is_too_few():
    found = lr_range.extract_one(LR[:1], np.array([2.3]))
    assert (found.status, found.suggested_lr) == ("too_few_points", None)


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        ([], "the sweep has no rows"),
        ([1e-3, -1e-2], r"lr, row 1: not an LR \(got -0.01\)"),
        ([1e-3, np.nan], "lr, row 1: not an LR"),
        ([1e-2, 1e-3], "lr, row 1: does not increase"),
        ([1e-3, 1e-3], "lr, row 1: does not increase"),
    ],
)
def test_a_table_that_is_no_sweep_is_refused(lr, message):
    with pytest.raises(InputError, match=message):
        lr_range.extract_one(np.array(lr), np.ones(len(lr)))


def test_wrong_columns_and_empty_files_are_refused_by_name(tmp_path):
    path = tmp_path / "sweep.csv"
    for text in ("", "lr,loss\n1,2\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"sweep\.csv: table"):
            records.read_csv(path, records.SWEEP_COLUMNS)


def test_the_interval_is_students_in_log10():
    values = [1e-2, 2e-2, 4e-2]
    low, high = stats.ttest_1samp(np.log10(values), 0).confidence_interval(0.95)
    found = lr_range.interval(values)
    assert found["value"] == pytest.approx(2e-2, rel=1e-12)
    assert (found["low"], found["high"]) == (pytest.approx(10**low), pytest.approx(10**high))
    assert found["factor"] == pytest.approx(found["high"] / found["value"])
    assert lr_range.interval([1e-2]) == {
        "value": pytest.approx(1e-2),
        "low": None,
        "high": None,
        "factor": None,
    }


def test_the_stability_threshold_of_quadratics_is_found():
    # SGD on a quadratic is stable below 2 / λ_max, with momentum μ below 2 (1 + μ) / λ_max.
    for momentum in (0.0, 0.9):
        assert score.quadratics(momentum)["within"] >= 95


@pytest.mark.parametrize("part", ["reported", "fresh"])
def test_our_rule_is_ahead_of_every_other_on_what_it_was_not_tuned_on(part):
    table = score.scores()
    ours = table["ours"]
    for suite in ("synthetic", "real"):
        assert ours[f"{suite}_{part}_shift"] < 0.3
        for name, row in table.items():
            if name != "ours":
                assert ours[f"{suite}_{part}_hits"] > row[f"{suite}_{part}_hits"], name
                assert ours[f"{suite}_{part}_shift"] < row[f"{suite}_{part}_shift"], name
                assert ours[f"{suite}_{part}_shift_90"] < row[f"{suite}_{part}_shift_90"], name


def test_the_suite_is_as_large_as_it_says():
    table = score.scores()["ours"]
    assert sum(table[f"synthetic_{part}_checks"] for part in score.PARTS) >= 300
    assert sum(table[f"real_{part}_checks"] for part in score.PARTS) >= 100


@pytest.mark.parametrize("per_decade", [14, 50, 200, 1000])
def test_the_delay_of_an_instability_is_that_of_gradient_descent_on_a_quadratic(per_decade):
    """Counted: above the threshold 1 the loss grows by (2 LR - 1)^2 per step, from a ten-thousandth of what is seen."""
    grown, lr = 1e-4, 1.0
    while grown < 1:
        lr *= 10 ** (1 / per_decade)
        grown *= (2 * lr - 1) ** 2
    at_once = lr_range.suggestion(1.0, 1e9, 1e12)  # a sweep so slow that nothing is late, and nothing pulls
    assert at_once == pytest.approx(1 / lr_range.BACK_OFF, rel=1e-5)
    late = at_once / lr_range.suggestion(1.0, 1e9, per_decade)
    assert (
        abs(np.log10(late / lr)) < 1 / per_decade + 0.02
    )  # a step, and 5 % for the growth being exp(4u) near 1 only


def test_the_suggestion_does_not_move_with_the_progress_that_a_slower_sweep_makes():
    """Half of the descent is done at an LR in proportion to 1/n: four times the steps, a quarter of the LR."""
    delay = [lr_range.suggestion(1.0, 1e9, n) for n in (50, 200)]
    found = [lr_range.suggestion(1.0 / delay[k], 0.04 / 4**k, n) for k, n in enumerate((50, 200))]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0] == pytest.approx(0.04**lr_range.TOWARDS, rel=1e-12)


def hostile(seed):
    """A sweep of any length, spacing and shape of loss, with values that no loss should have [steps] each."""
    random = np.random.default_rng(seed)
    lr = np.unique(10 ** random.uniform(-8, 2, random.integers(2, 300)))
    size, noise = len(lr), random.standard_normal(len(lr))
    loss = [
        10 ** random.uniform(-30, 30) * np.abs(noise),
        np.cumsum(noise),  # below zero too
        2.3 + np.arange(size) * random.uniform(-0.01, 0.01) + 0.02 * noise,
        np.exp(random.uniform(-1, 1) * np.arange(size)),
        0.5 + 1.8 / (1 + (lr / 1e-2) ** 2) + lr**4 + 0.02 * noise,
        random.choice([0, 1e308, -1e308, 2.3], size),
    ][seed % 6]
    loss[random.integers(size, size=random.integers(3))] = random.choice([np.nan, np.inf, -np.inf, 1e30, 0])
    return lr, loss


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid", "ignore:divide")
def test_whatever_the_sweep_numbers_are_in_order_and_inside_it_or_there_are_none():
    quadratics = [score.synthetic.make_quadratic(seed) for seed in range(100)]
    seen = set()
    for lr, loss in [hostile(seed) for seed in range(600)] + [(one.lr, one.loss) for one in quadratics]:
        found = lr_range.extract_one(lr, loss)
        seen.add(found.status)
        numbers = [found.lr_min, found.suggested_lr, found.lr_max]
        if found.status == "ok":
            assert numbers == sorted(numbers) and lr[0] <= numbers[0] and numbers[2] <= lr[-1]
        else:
            assert numbers == [None] * 3
    assert seen == set(lr_range.STATUSES)


def test_the_documented_score_is_the_one_that_is_measured():
    assert score.documented() == score.report().strip()
