"""Records: what is written reads back exactly; what is damaged, foreign or edited is refused."""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rangefinder import lr_range, records
from rangefinder.errors import InputError


def example_run() -> dict:
    results = dict.fromkeys(
        [
            "final_test_accuracy",
            "final_test_loss",
            "final_validation_accuracy",
            "final_validation_loss",
            "best_validation_accuracy",
            "best_validation_epoch",
            "test_accuracy_at_best_validation",
            "best_test_accuracy",
            "best_test_epoch",
        ]
    ) | {"final_test_accuracy": 0.98, "best_test_epoch": 1}
    return {
        "study": "s",
        "run": "sgd-none-bs64-seed0",
        "seed": 0,
        "parameters": {"epochs": 1, "lr": 0.1},
        "digest": "a" * 64,
        "spec_digest": records.sha256_text(records.canonical({"a": 1})),
        "lr": {"expression": "suggested", "value": 0.1, "range_test": "sgd", "range_status": "ok"},
        "status": "completed",
        "divergence": None,
        "steps": 2,
        "steps_per_epoch": 2,
        "samples": {"train": 100, "validation": 0, "test": 10},
        "model_parameters": 10,
        "results": results,
        "provenance": {"engine_digest": "e", "data_digest": "d", "version": "0"},
    }


MACHINE = {
    "device": "cpu",
    "environment": {"python": "3.11"},
    "clocks": {
        f"{name}_s": 0.5
        for name in ("wait", "startup", "data", "train", "evaluate", "checkpoint", "compile", "total")
    },
    "epochs": [{"epoch": 1, "train_s": 1.0, "evaluate_s": 0.5}],
    "peak_memory_bytes": None,
    "resumed": 0,
}
EPOCHS = {name: [1] for name in records.EPOCH_COLUMNS} | {"validation_loss": [None]}
STEPS = {"step": [0, 1], "lr": np.array([0.1, 0.05]), "loss": np.array([2.3, 1 / 3], dtype=np.float32)}


@pytest.fixture
def folder(tmp_path):
    records.write_run(tmp_path, example_run(), MACHINE, EPOCHS, STEPS)
    return tmp_path


def test_a_run_reads_back_exactly(folder):
    run = records.read_run(folder)
    assert run["run"]["results"]["final_test_accuracy"] == 0.98
    assert run["machine"]["clocks"]["total_s"] == 0.5
    assert run["steps"]["loss"].astype(np.float32).tolist() == STEPS["loss"].tolist()
    assert run["steps"]["lr"].tolist() == [0.1, 0.05]
    assert math.isnan(run["epochs"]["validation_loss"][0])
    assert sorted(path.name for path in folder.iterdir()) == [
        "epochs.csv",
        "machine.json",
        "run.json",
        "steps.csv",
    ]


@pytest.mark.parametrize("name", ["run.json", "machine.json", "epochs.csv", "steps.csv"])
def test_every_truncation_is_refused_by_name(folder, name):
    whole = (folder / name).read_bytes()
    for length in range(len(whole) - 1):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match=name):
            records.read_run(folder)


def test_an_edited_number_is_refused(folder):
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace("0.98", "0.99"))
    with pytest.raises(InputError, match=r"run\.json: checksum: record was changed"):
        records.read_run(folder)


def test_an_edited_table_is_refused(folder):
    (folder / "epochs.csv").write_text((folder / "epochs.csv").read_text().replace("1", "2"))
    with pytest.raises(InputError, match=r"epochs\.csv: table does not match its record"):
        records.read_run(folder)


def test_a_stored_table_is_the_table_that_is_read_at_once_and_holds_none_of_it(folder):
    run = records.read_run(folder)
    stored = records.StoredTable(folder, "steps", run["run"])
    other = folder / "other"
    records.write_run(other, example_run(), MACHINE, EPOCHS, STEPS | {"lr": [1.0, 2.0]})
    another = records.StoredTable(other, "steps", records.read_run(other)["run"])
    assert list(stored) == list(records.STEP_COLUMNS)
    for name in stored:  # in turn: each keeps to its own file
        assert stored[name].tolist() == run["steps"][name].tolist()
        assert another["lr"].tolist() == [1.0, 2.0]


def test_a_stored_table_is_checked_when_it_is_named_and_when_it_is_read(folder):
    run = records.read_run(folder)["run"]
    stored = records.StoredTable(folder, "steps", run)
    (folder / "steps.csv").write_text((folder / "steps.csv").read_text().replace("0.05", "0.06"))
    for use in (lambda: stored["lr"], lambda: records.StoredTable(folder, "steps", run)):
        with pytest.raises(InputError, match=r"steps\.csv: table does not match its record"):
            use()
    (folder / "steps.csv").unlink()
    with pytest.raises(InputError, match=r"steps\.csv: table is missing"):
        stored["lr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 2},
            r"format: record has another format version; delete it and run again \(got 2\); allowed: 1",
        ),
        ({"status": "finished"}, r"status: not a run record"),
        ({"extra": 1}, r"not a run record.*extra"),
        ({"results": {}}, r"results: not a run record"),
    ],
)
def test_a_foreign_record_is_refused(folder, change, message):
    record = json.loads((folder / "run.json").read_text()) | change
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        records.read_run(folder)


def example_sweep(**changes) -> dict:
    return {
        "study": "s",
        "range_test": "sgd",
        "seed": 0,
        "parameters": {"optimizer": {"name": "SGD"}, "batch_size": 50, "seed": 0},
        "digest": "d" * 64,
        "spec_digest": "s" * 64,
        "steps_per_decade": 50.0,
        "steps": 41,
        "stopped": None,
        "provenance": {"engine_digest": "e", "data_digest": "d", "version": "1"},
    } | changes


def write_sweep(folder, **changes):
    rows = np.arange(41)
    columns = {"step": rows, "lr": 1e-3 * 10 ** (rows / 10), "loss": 2.3 - rows / 100}
    columns |= {name: np.full(41, np.nan) for name in ("accuracy", "validation_loss")}
    records.write_sweep(folder, example_sweep(**changes), MACHINE, columns)


@pytest.mark.parametrize(
    ("place", "key", "got", "allowed"),
    [
        ("other/lr_range/sgd/seed0", "study", "'s'", "other"),
        ("s/lr_range/adam/seed0", "range_test", "'sgd'", "adam"),
        ("s/lr_range/sgd/seed1", "seed", "0", "seed1"),
    ],
)
def test_a_sweep_that_was_copied_into_another_ones_folder_is_refused(tmp_path, place, key, got, allowed):
    made = tmp_path / "s/lr_range/sgd/seed0"
    write_sweep(made)
    assert records.read_sweep(made)["sweep"]["seed"] == 0
    shutil.copytree(made, tmp_path / place)
    for read in (
        lambda: records.read_sweep(tmp_path / place),
        lambda: records.check(tmp_path / place / "sweep.csv"),
    ):
        with pytest.raises(InputError, match=rf"{key}: record belongs elsewhere") as error:
            read()
        assert f"{place}/sweep.json: " in str(error.value)
        assert str(error.value).endswith(f"(got {got}); allowed: {allowed}")


def test_an_lr_range_that_was_copied_into_another_ones_folder_is_refused(tmp_path):
    made = tmp_path / "s/lr_range/sgd"
    write_sweep(made / "seed0")
    records.write_json(made / "range.json", lr_range.record([records.read_sweep(made / "seed0")]))
    records.write_json(made / "other.json", lr_range.record([records.read_sweep(made / "seed0")]))
    assert records.read_range(made / "range.json") == records.read_range(made / "range.json", "s")
    with pytest.raises(InputError, match=r"range\.json: study: record belongs elsewhere"):
        records.read_range(made / "range.json", "digits")
    for place, key in (("other/lr_range/sgd", "study"), ("s/lr_range/adam", "range_test")):
        shutil.copytree(made, tmp_path / place)
        for read in (records.read_range, records.check):
            with pytest.raises(InputError, match=rf"{place}/range\.json: {key}: record belongs elsewhere"):
                read(tmp_path / place / "range.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 0}, r"seed: the same seed twice"),
        ({"study": "t"}, r"study: sweeps of one range test differ"),
        ({"range_test": "adam"}, r"range_test: sweeps of one range test differ"),
        (
            {"parameters": {"optimizer": {"name": "Adam"}, "batch_size": 50, "seed": 1}},
            r"parameters\.optimizer: ",
        ),
        (
            {"parameters": {"optimizer": {"name": "SGD"}, "seed": 1}},
            r"parameters\.batch_size: ",
        ),
        ({"provenance": {"engine_digest": "e", "data_digest": "x", "version": "1"}}, r"data_digest: "),
        ({"steps_per_decade": 10.0}, r"steps_per_decade: "),
    ],
)
def test_sweeps_that_differ_in_more_than_their_seed_give_no_range(tmp_path, changes, message):
    one, two = tmp_path / "s/lr_range/sgd/seed0", tmp_path / "s/lr_range/sgd/seed1"
    write_sweep(one)
    good = {"seed": 1, "parameters": example_sweep()["parameters"] | {"seed": 1}}
    write_sweep(two, **good, provenance={"engine_digest": "other", "data_digest": "d", "version": "2"})
    sweeps = [records.read_sweep(folder) for folder in (one, two)]
    assert lr_range.record(sweeps)["seeds"] == [0, 1]
    bad = sweeps[1] | {"sweep": sweeps[1]["sweep"] | changes}
    with pytest.raises(InputError, match=message) as error:
        lr_range.record([sweeps[0], bad])
    assert all(str(folder / "sweep.json") in str(error.value) for folder in (one, two))


def test_the_times_of_another_run_are_refused(folder, tmp_path):
    """With a right checksum, as a copied file has it; one from before it named its run is still read."""
    other = tmp_path / "other"
    records.write_run(other, example_run() | {"spec_digest": "b" * 64}, MACHINE, EPOCHS, STEPS)
    own = (folder / "machine.json").read_text()
    shutil.copy(other / "machine.json", folder / "machine.json")
    with pytest.raises(InputError, match=r"machine\.json: spec_digest: record of another run .* \(got 'bbb"):
        records.read_run(folder)
    (folder / "machine.json").write_text(own)
    assert records.read_run(folder)["machine"]["spec_digest"] == example_run()["spec_digest"]
    records.write_json(folder / "machine.json", MACHINE)
    assert "spec_digest" not in records.read_run(folder)["machine"]


@pytest.mark.parametrize("name", ["machine.json", "epochs.csv", "steps.csv"])
@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_what_no_rule_asks_for_is_made_again_with_its_folder(folder, name, damage):
    damage(folder / name)
    with pytest.raises(InputError, match=rf"{name}: (record|table) .*; delete its folder and run again$"):
        records.read_run(folder)


def test_not_a_number_never_gets_into_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_json(tmp_path / "x.json", {"a": math.nan})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    records.write_text(tmp_path / "a.csv", "old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.csv: cannot be written: No space left"):
        records.write_text(tmp_path / "a.csv", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(allow_nan=False, allow_infinity=False)), min_size=0)
)
def test_tables_round_trip_bit_for_bit(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        records.write_csv(
            path, {"a": [a for a, _ in rows], "b": np.array([b for _, b in rows], dtype=np.float64)}
        )
        read = records.read_csv(path, ("a", "b"))
    assert read["a"].tolist() == [float(a) for a, _ in rows]
    assert read["b"].tobytes() == np.array([b for _, b in rows], dtype=np.float64).tobytes()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_a_json_record_round_trips_to_the_last_bit(parameters):
    written = example_run() | {"parameters": parameters, "files": {"epochs.csv": "e", "steps.csv": "s"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        records.write_json(path, written, lasting=False)
        read = records.read_json(path, "run")
        whole = path.read_bytes()
        records.write_json(path, read, lasting=False)
        assert path.read_bytes() == whole
    assert (read.pop("format"), len(read.pop("checksum"))) == (records.FORMAT, 64)
    assert read == written
    # == holds True for 1, and 0.0 for -0.0
    assert json.dumps(read, sort_keys=True) == json.dumps(written, sort_keys=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Bytes of a real record of each kind that averages are made from."""
    folder = tmp_path_factory.mktemp("whole") / "s/lr_range/sgd/seed0"
    write_sweep(folder)
    records.write_run(folder, example_run(), MACHINE, EPOCHS, STEPS)
    records.write_json(folder / "range.json", lr_range.record([records.read_sweep(folder)]))
    return {kind: (folder / f"{kind}.json").read_bytes() for kind in ("run", "machine", "sweep", "range")}


@given(
    st.sampled_from(["run", "machine", "sweep", "range"]),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 2), st.binary(min_size=1, max_size=3))
    ),
)
@settings(max_examples=500)
def test_a_damaged_record_is_refused_by_name_or_says_what_it_said(whole, kind, changes):
    """Bytes put in, put in place of others or taken out: what is still read is the record that was written."""
    data = whole[kind]
    for where, how, new in changes:
        at = int(where * len(data))
        data = data[:at] + (new if how else b"") + data[at + (0 if how == 1 else len(new)) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.json"
        path.write_bytes(data)
        try:
            read = records.read_json(path, kind)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert data != whole[kind]
        else:
            assert records.canonical(read) == records.canonical(json.loads(whole[kind]))


@given(st.binary(max_size=300))
def test_no_bytes_make_a_reader_fail_otherwise(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data)
        with pytest.raises(InputError):
            records.read_json(path, "run")
        try:
            records.read_csv(path, ("a", "b"))
        except InputError:
            pass
        else:
            assert data.splitlines()[0] == b"a,b"
