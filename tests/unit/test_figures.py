"""Figures: what is drawn with what, and that the lines drawn are the values of the records."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rangefinder import (
    batch_figures,
    captions,
    curve_figures,
    drawing,
    lr_range,
    panels,
    range_figures,
    replay_figures,
)
from rangefinder.cells import Cell
from rangefinder.published_curves import Curve
from rangefinder.statistics import mean_interval


def run(accuracy=0.9, *, seconds=2.0, loss=None):
    """A completed run's record as far as figures read it."""
    steps = np.arange(len(loss) if loss is not None else 20.0)
    return {
        "run": {"status": "completed", "results": {"final_test_accuracy": accuracy}},
        "machine": {"epochs": [{"train_s": seconds / 2}, {"train_s": seconds / 2}]},
        "epochs": {
            "epoch": np.array([1.0, 2.0]),
            **{
                name: np.array([0.5, 0.4])
                for name in ("test_loss", "train_loss", "test_accuracy", "train_accuracy")
            },
        },
        "steps": {
            "step": steps,
            "lr": np.full(len(steps), 0.1),
            "loss": np.ones(20) if loss is None else loss,
        },
    }


def cell(sweep, optimizer, schedule, batch_size, lr, *, form=None, record=None):
    axes = {"optimizer": optimizer, "schedule": schedule, "batch_size": batch_size, "lr": lr}
    return Cell(form, axes, [sweep], [0], {0: "x"}, {0: record or run()})


def figure_of(draw, *arguments):
    """The one figure that is drawn, before it becomes SVG."""
    (figure,) = draw.__wrapped__(*arguments)
    return figure


def layout(cells):
    return {panel.title: list(panel.lines) for panel in panels.by_sweep(cells)}


def test_a_sweep_of_schedules_and_batch_sizes_has_schedules_as_lines_and_batches_as_panels():
    grid = [cell("s", "sgd", schedule, batch, 0.1) for schedule in ("none", "step") for batch in (32, 64)]
    assert layout(grid) == {"sgd · batch 32": ["none", "step"], "sgd · batch 64": ["none", "step"]}


def test_settings_tried_one_at_a_time_are_lines_of_one_panel():
    cells = [cell("s", "sgd", "none", 64, 0.1) for _ in range(3)]
    for made, precision, graph in zip(cells, ["fp32", "bf16", "fp32"], [True, True, False], strict=True):
        made.axes |= {"precision": precision, "cuda_graph": graph}
    labels = ["precision fp32, cuda_graph True", "precision bf16", "cuda_graph False"]
    assert layout(cells) == {"sgd · none": labels}


def test_a_sweep_of_one_schedule_has_batch_sizes_as_lines():
    cells = [cell("a", "sgd", "none", 64, "lr"), cell("a", "sgd", "step", 64, "lr")]
    cells += [cell("b", name, "onecycle", batch, "lr") for name in ("sgd", "adam") for batch in (32, 64)]
    assert layout(cells) == {
        "sgd · batch 64": ["none", "step"],
        "sgd · onecycle": ["batch 32", "batch 64"],
        "adam · onecycle": ["batch 32", "batch 64"],
    }


def test_a_learning_rate_that_follows_from_the_schedule_does_not_part_a_panel_and_one_that_does_not_does():
    follows = [cell("s", "sgd", "none", 64, 0.1), cell("s", "sgd", "onecycle", 64, 2.0)]
    assert list(layout(follows).values()) == [["none", "onecycle"]]
    crossed = [cell("s", "sgd", schedule, 64, lr) for schedule in ("none", "onecycle") for lr in (0.1, 2.0)]
    assert layout(crossed) == {"sgd · LR 0.1": ["none", "onecycle"], "sgd · LR 2.0": ["none", "onecycle"]}


def test_forms_never_share_a_panel_and_cells_without_runs_have_none():
    cells = [
        cell("s", "sgd", schedule, 64, 0.1, form=form)
        for form in ("put-right", "as-published")
        for schedule in ("none", "step")
    ]
    missing = cell("s", "sgd", "onecycle", 64, 0.1, form="put-right")
    missing.runs = {}
    assert layout([*cells, missing]) == {
        "sgd (put-right)": ["none", "step"],
        "sgd (as-published)": ["none", "step"],
    }


def test_a_study_without_comparisons_still_has_its_curves():
    assert layout([cell("s", "sgd", "none", 64, 0.1)]) == {"sgd": ["none"]}
    assert layout([cell("s", name, "none", 64, 0.1) for name in ("sgd", "adam")]) == {"none": ["sgd", "adam"]}


def axes_of(figure):
    drawn = {
        (position, line.get_label()): line.get_xydata().tolist()
        for position, axes in enumerate(figure.axes)
        for line in axes.lines
        if len(line.get_xydata())
    }
    plt.close(figure)
    return drawn


def entry(found, published, *, metric="best_test_accuracy", seconds=None, revision="write-up", ours=0.8):
    return {
        **found.axes,
        "published": published,
        "metric": metric,
        "train_seconds": seconds,
        "revision": revision,
        "ours": mean_interval([ours]),
    }


def test_the_batch_figure_lays_published_values_over_the_metric_that_was_published():
    cells = [
        cell("s", "sgd", "a", size, "k", form="as-published", record=run(0.5, seconds=size / 10))
        for size in (128, 256)
    ]
    published = [entry(cells[0], 0.89, seconds=100.0), entry(cells[1], 0.88, seconds=60.0)]
    published.append(entry(cells[1], 0.87, revision="later revision"))
    published.append(entry(cells[1], 0.99, metric="final_test_accuracy", seconds=90.0))
    drawn = axes_of(figure_of(batch_figures.batch_size, cells, published))
    assert drawn[0, "sgd"] == [[128, pytest.approx(80)], [256, pytest.approx(80)]]  # not the final 50 %
    assert drawn[1, "sgd"] == [[128, 12.8], [256, 25.6]]
    values = [line for (axes, label), line in drawn.items() if axes == 0 and label != "sgd"]
    assert [[128, 89.0], [256, 88.0]] in values and [[256, 87.0]] in values
    assert [[128, 100.0], [256, 60.0]] in [line for (axes, _), line in drawn.items() if axes == 1]
    points = [point for line in drawn.values() for point in line]
    assert [256, 99.0] not in points and [256, 90.0] not in points  # of another metric than ours


def test_every_revision_of_a_published_table_is_drawn():
    cells = [cell("s", "sgd", "a", size, "k", form="as-published", record=run(0.5)) for size in (128, 256)]
    published = [entry(cells[0], 0.8 + n / 100, revision=f"revision {n}") for n in range(5)]
    drawn = axes_of(figure_of(batch_figures.batch_size, cells, published))
    for n in range(5):
        assert [[128, pytest.approx(80 + n)]] in drawn.values()


@pytest.mark.parametrize("form", ["put-right", None])
def test_published_values_are_not_laid_over_another_form(form):
    cells = [cell("s", "sgd", "a", size, "k", form=form, record=run(0.5)) for size in (128, 256)]
    drawn = axes_of(figure_of(batch_figures.batch_size, cells, [entry(cells[0], 0.89)]))
    assert drawn == {
        (0, "sgd"): [[128, 50.0], [256, 50.0]],
        (1, "sgd"): [[128, 2.0], [256, 2.0]],
    }


def test_no_batch_figure_without_batch_sizes_to_compare():
    assert batch_figures.batch_size([cell("s", "sgd", "a", 128, 0.1)]) == []


def test_the_replay_figure_shows_both_losses_and_their_distance():
    ours = np.array([2.3, 2.0, 1.5])
    replayed = cell("s", "sgd", "a", 128, 0.1, form="as-published", record=run(loss=ours))
    published = Curve(
        dict(replayed.axes), "train_loss", np.arange(3), np.array([2.3, 2.1, 1.0]), "log", "write-up"
    )
    drawn = axes_of(figure_of(replay_figures.replay, [replayed], [published]))
    assert drawn[0, "published"] == [[0, 2.3], [1, 2.1], [2, 1.0]]
    assert drawn[0, "ours"] == [[0, 2.3], [1, 2.0], [2, 1.5]]
    (apart,) = [line for (axes, _), line in drawn.items() if axes == 1]
    assert apart == [[1, pytest.approx(0.1)], [2, pytest.approx(0.5)]]
    replayed.form = "put-right"
    assert replay_figures.replay([replayed], [published]) == []


def test_a_spike_survives_decimation():
    y = np.zeros(100_000)
    y[54_321] = 7.0
    x, shown = drawing.decimated(np.arange(100_000), y)
    assert len(x) <= drawing.MOST_POINTS and (54_321, 7.0) in set(
        zip(x.tolist(), shown.tolist(), strict=True)
    )


def test_a_schedule_in_steps_is_drawn_where_it_changes():
    record = run()
    record["steps"]["lr"] = np.repeat([0.1, 0.01], 10)
    drawn = axes_of(figure_of(curve_figures.lr_schedules, [cell("s", "sgd", "step", 64, 0.1, record=record)]))
    assert list(drawn.values()) == [[[0, 0.1], [10, 0.01], [19, 0.01]]]


def range_entry(losses):
    """The content of range.json as far as the figure reads it, and the sweeps it is of, one per loss [steps]."""
    lr = np.logspace(-5, 1, len(losses[0]))
    columns = [{"seed": seed, "lr": lr, "loss": loss} for seed, loss in enumerate(losses)]
    sweeps = [{"columns": column, "sweep": {"seed": column["seed"]}} for column in columns]
    return {"range_test": "sgd"} | lr_range.extract(columns), sweeps


def bowl(seed, centre=1e-2, steps=301):
    lr = np.logspace(-5, 1, steps)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(steps)
    return 0.5 + 1.8 / (1 + (lr / centre) ** 2) + lr**4 + noise


def test_the_range_figure_has_every_raw_point_the_curves_the_band_the_suggestion_and_the_other_rules():
    losses = [bowl(0), bowl(1, 2e-2)]
    losses[1][-9:] = np.nan
    entry, sweeps = range_entry(losses)
    figure = figure_of(range_figures.range_test, entry, sweeps, lr_range.smooth)
    (axes,) = figure.axes
    lines = axes.lines
    raw = [line for line in lines if line.get_linestyle() == "None" and len(line.get_xdata()) > 100]
    assert len(raw) == 2 and raw[0].get_marker() != raw[1].get_marker()  # seeds are told apart without colour
    for line, loss in zip(raw, losses, strict=True):
        assert np.array_equal(line.get_ydata(), loss[np.isfinite(loss)])
    curves = [line for line in lines if line.get_label().startswith("smoothed")]
    assert len({str(line._dash_pattern) for line in curves}) == 2  # and so are their curves
    for line, loss in zip(curves, losses, strict=True):
        assert np.array_equal(line.get_ydata(), lr_range.smooth(np.logspace(-5, 1, 301), loss)[1])
    (band,) = axes.patches
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx(
        [entry["lr_min"]["value"], entry["lr_max"]["value"]], rel=1e-12
    )
    (suggested,) = [line for line in lines if line.get_label().startswith("suggested")]
    assert suggested.get_xdata() == [entry["suggested_lr"]["value"]] * 2
    interval = [entry["suggested_lr"]["low"], entry["suggested_lr"]["high"]]
    assert interval in [list(line.get_xdata()) for line in lines]
    marks = {
        line.get_label().rsplit(" ", 1)[0]: line for line in lines if line.get_marker() not in ("None", "|")
    }
    answered = {rule["title"]: rule["value"] for rule in entry["rules"].values() if rule["value"]}
    assert len(answered) == 7 and {name: marks[name].get_xdata()[0] for name in answered} == answered
    assert len({marks[name].get_marker() for name in answered}) == 7
    plt.close(figure)


@pytest.mark.parametrize(("seeds", "steps", "drawn"), [(1, 2345, 2345), (3, 701, 701), (3, 100_001, 1200)])
def test_the_raw_points_of_a_very_long_sweep_are_decimated(seeds, steps, drawn):
    losses = [bowl(seed, steps=steps) for seed in range(seeds)]
    losses[0][steps // 3] = 3.5  # a spike
    columns = {"lr": np.logspace(-5, 1, steps)}
    sweeps = [
        {"columns": columns | {"loss": loss}, "sweep": {"seed": seed}} for seed, loss in enumerate(losses)
    ]
    entry, _ = range_entry([loss[::100] for loss in losses])
    nothing = (np.zeros(0), np.zeros(0))  # the curves have a bound of their own
    figure = figure_of(range_figures.range_test, entry, sweeps, lambda lr, loss: nothing)
    raw = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 100]
    assert [len(line.get_xdata()) for line in raw] == [pytest.approx(drawn, rel=0.01)] * seeds
    assert (columns["lr"][steps // 3], 3.5) in zip(*raw[0].get_data(), strict=True)
    plt.close(figure)
    (text,) = range_figures.range_test(entry, sweeps, lambda lr, loss: nothing)
    assert len(text) < 800_000


@pytest.mark.parametrize(
    ("loss", "status"),
    [
        (np.full(301, np.nan), "diverged"),
        (np.full(301, 2.3), "no_descent"),
        (2.3 - 0.005 * np.arange(301), "right_censored"),
    ],
)
def test_a_range_figure_without_a_range_has_no_band_and_no_suggestion(loss, status):
    entry, sweeps = range_entry([loss])
    figure = figure_of(range_figures.range_test, entry, sweeps, lr_range.smooth)
    (axes,) = figure.axes
    assert entry["status"] == status and axes.get_title() == f"sgd: {status.replace('_', ' ')}"
    assert not axes.patches and not [line for line in axes.lines if line.get_label().startswith("suggested")]
    plt.close(figure)


def epochs(values, *, end="completed"):
    """A record whose accuracies are these, a fraction per epoch."""
    curve = np.array(values)
    record = run() | {"epochs": {name: curve for name in run()["epochs"]}}
    record["epochs"]["epoch"] = np.arange(1.0, len(curve) + 1)
    record["run"]["status"] = end
    return record


def test_accuracies_are_in_percent_and_what_the_first_epochs_are_lower_is_left_out():
    cells = [
        cell("s", "sgd", name, 64, 0.1, record=epochs([0.1, 0.5, last - 0.02, last]))
        for name, last in (("none", 0.96), ("step", 0.98))
    ]
    figure = figure_of(curve_figures.accuracy_curves, cells)
    bottom, top = figure.axes[0].get_ylim()
    # Second half of the epochs: from epoch 2 on, 50 to 98 %; half that distance below.
    assert bottom == pytest.approx(50 - 24) and top > 98
    assert axes_of(figure)[0, "step"] == [[1, 10], [2, 50], [3, pytest.approx(96)], [4, 98]]

    cells[1] = cell("s", "sgd", "step", 64, 0.1, record=epochs([0.1, 0.08], end="diverged"))
    figure = figure_of(curve_figures.accuracy_curves, cells)
    assert figure.axes[0].get_ylim()[0] < 8  # where a run ended is in sight
    plt.close(figure)


def test_no_accuracy_above_100_percent_is_on_an_axis():
    cells = [
        cell("s", "sgd", name, 64, 0.1, record=epochs([0.1, 0.95, 0.99, 1.0])) for name in ("none", "step")
    ]
    figure = figure_of(curve_figures.accuracy_curves, cells)
    bottom, top = figure.axes[0].get_ylim()
    assert 100 < top < 101
    assert max(tick for tick in figure.axes[0].get_yticks() if bottom <= tick <= top) <= 100
    plt.close(figure)


def test_runs_of_one_epoch_are_points():
    cells = [cell("s", "sgd", name, 64, 0.1, record=epochs([0.9])) for name in ("none", "step")]
    figure = figure_of(curve_figures.accuracy_curves, cells)
    drawn = {line.get_label(): (line.get_marker(), line.get_fillstyle()) for line in figure.axes[0].lines}
    assert drawn == dict.fromkeys(("none", "step"), ("o", "full")) | {"training (dotted)": ("o", "none")}
    assert [tick for tick in figure.axes[0].get_xticks() if 0.5 < tick < 1.5] == [1]
    plt.close(figure)


def legends(figure):
    found = {
        (legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts()))
        for legend in figure.legends
    }
    plt.close(figure)
    return found


def test_a_colour_that_means_two_things_has_two_legends():
    schedules = [cell("a", "sgd", name, 64, 0.1) for name in ("none", "step")]
    assert legends(figure_of(curve_figures.lr_schedules, schedules)) == {("", "none", "step")}
    batches = [cell("b", "sgd", "onecycle", size, 0.1) for size in (32, 128)]
    figure = figure_of(curve_figures.lr_schedules, [*schedules, *batches])
    first, second = (legend.get_window_extent() for legend in figure.legends)
    assert first.y0 >= second.y1 - 1e-6  # one below the other
    assert legends(figure) == {("schedule", "none", "step"), ("batch size", "batch 32", "batch 128")}


def test_each_lr_has_a_row_of_its_own_where_a_batch_size_was_trained_at_several():
    cells = [
        cell("s", "sgd", "a", size, lr, record=run(accuracy))
        for lr, accuracy in (("s / 2", 0.5), ("s", 0.6))
        for size in (128, 256)
    ]
    figure = figure_of(batch_figures.batch_size, cells)
    assert [axes.get_title() for axes in figure.axes[::2]] == ["a · LR s / 2", "a · LR s"]
    drawn = axes_of(figure)
    assert drawn[0, "sgd"] == [[128, 50.0], [256, 50.0]] and drawn[2, "sgd"] == [[128, 60.0], [256, 60.0]]


def test_lrs_that_follow_the_batch_size_stay_one_line_beside_others_of_one_batch_size():
    cells = [cell("s", "sgd", "a", size, f"s * {size}") for size in (128, 256)]
    cells += [cell("lrs", "sgd", "a", 128, "s / 10"), cell("lrs", "sgd", "b", 128, "s / 10")]
    figure = figure_of(batch_figures.batch_size, cells)
    assert [axes.get_title() for axes in figure.axes[::2]] == ["a"]
    assert [x for x, _ in axes_of(figure)[0, "sgd"]] == [128, 128, 256]


def test_time_begins_at_zero():
    cells = [cell("s", "sgd", "a", size, 0.1, record=run(seconds=size / 10)) for size in (128, 256)]
    figure = figure_of(batch_figures.batch_size, cells)
    assert figure.axes[1].get_ylim()[0] == 0
    plt.close(figure)


def many(batches):
    """Two schedules at many batch sizes: a panel for each of these."""
    return [cell("s", "sgd", name, size, 0.1) for size in range(batches) for name in ("none", "step")]


@pytest.mark.parametrize(("panels_", "expected"), [(24, [24]), (25, [13, 12]), (60, [20, 20, 20])])
def test_many_panels_are_several_figures_with_every_panel_once(panels_, expected):
    titles, styles = [], set()
    for figure, count in zip(curve_figures.loss_curves.__wrapped__(many(panels_)), expected, strict=True):
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == count
        titles += [axes.get_title() for axes in shown]
        styles |= {(line.get_label(), line.get_color()) for axes in shown for line in axes.lines}
        plt.close(figure)
    assert titles == [f"sgd · batch {size}" for size in range(panels_)]
    assert len({colour for label, colour in styles if label == "step"}) == 1  # the same in all figures


def test_one_figure_is_in_memory_at_a_time(monkeypatch):
    opened = []
    written = drawing._svg

    def noted(figure):
        opened.append(plt.get_fignums())
        return written(figure)

    monkeypatch.setattr(drawing, "_svg", noted)
    texts = curve_figures.lr_schedules(many(30))
    assert len(texts) == 2 and [len(numbers) for numbers in opened] == [1, 1]
    assert not plt.get_fignums()


def test_parts_of_a_figure_have_files_and_titles_of_their_own():
    ranges = [{"range_test": "sgd"}, {"range_test": "sgd-2"}, {"range_test": "no-figure"}]
    files = ["range-sgd.svg", "range-sgd-2.svg", "loss.svg", "loss-2.svg", "accuracy.svg", "accuracy-3.svg"]
    described = captions.describe(ranges, files)
    assert [(entry["file"], entry["title"]) for entry in described] == [
        ("range-sgd.svg", "LR range test sgd"),
        ("range-sgd-2.svg", "LR range test sgd-2"),
        ("loss.svg", "Loss by epoch (1 of 2)"),
        ("loss-2.svg", "Loss by epoch (2 of 2)"),
        ("accuracy.svg", "Accuracy by epoch"),
    ]
    first, second, alone = (entry["caption"] for entry in described[2:])
    assert first.endswith("; training loss dotted. Part 1 of 2.") and second == "The same, part 2 of 2."
    assert "art 1" not in alone
