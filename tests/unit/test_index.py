"""The page over all studies: what it says is what the tables beside the reports say."""

import csv
from pathlib import Path

import pytest
from rangefinder import index, records
from rangefinder.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs/gallery/digits-cpu"
EMPTY = "a,b\n"


def table(name):
    """The rows of one of the gallery's tables."""
    with open(GALLERY / f"tables/{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def accuracy(row):
    return float(row["final_test_accuracy"])


def best():
    """The row of the highest mean in accuracy.csv."""
    return max(table("accuracy"), key=accuracy)


def label(row):
    return f"{row['optimizer']} · {row['schedule']} · batch {row['batch_size']}"


def percent(row):
    half = (float(row["final_test_accuracy_high"]) - float(row["final_test_accuracy_low"])) / 2
    return f"{100 * accuracy(row):.2f} ± {100 * half:.2f}"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two studies with the tables of a real one; their record is made up, as the gallery keeps none."""
    for name in ("b-study", "a-study"):
        (tmp_path / name).mkdir()
        tables = {path.name: path.read_text() for path in (GALLERY / "tables").glob("*.csv")}
        records.write_derived(tmp_path / name / "tables", tables)
        for file in ("report.html", "study.json"):
            (tmp_path / name / file).write_text("")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/study.json").write_text("")

    whole = records.read_json

    def read(path, schema):
        if schema != "study":
            return whole(path, schema)
        trial = {"epochs": 1} if path.parent.name == "b-study" else None
        return {"title": f"The <{path.parent.name}>", "trial": trial, "runs": [{}] * 42}

    monkeypatch.setattr(records, "read_json", read)
    return tmp_path


def put(results, name, text):
    """Make a table of a-study anew, as if its records had changed."""
    folder = results / "a-study/tables"
    records.write_derived(folder, records.read_derived(folder) | {f"{name}.csv": text})


def test_each_study_with_a_report_has_a_row(results):
    first, second = index.rows(results)
    assert first["study"] == ("The <a-study>", "The <a-study>", "a-study/report.html")
    assert second["study"][0] == "The <b-study> (trial)"
    assert first["runs done"] == ("42 of 42", 42) and first["diverged"] == 0
    ranges = {row["range_test"]: float(row["suggested_lr"]) for row in table("lr_ranges")}
    assert first["suggested LR"] == f"sgd {ranges['sgd']:.3g}, adam {ranges['adam']:.3g}"
    highest = best()
    assert first["best"] == (f"{label(highest)}: {percent(highest)} %", pytest.approx(accuracy(highest)))


def test_a_cell_with_a_diverged_run_is_not_the_best(results):
    path = results / "a-study/tables/accuracy.csv"
    start = ",".join(["", *(best()[axis] for axis in ("optimizer", "schedule", "batch_size"))])
    lines = [
        line.replace(",3,3,0,0,completed,", ",3,2,1,0,diverged,") if line.startswith(start) else line
        for line in path.read_text().splitlines()
    ]
    put(results, "accuracy", "\n".join(lines) + "\n")
    assert not index.rows(results)[0]["best"][0].startswith(label(best()))


def test_an_axis_that_does_not_vary_has_no_column(results):
    put(
        results,
        "accuracy",
        "form,optimizer,schedule,lr,learning_rate,runs,completed,final_test_accuracy,final_test_accuracy_high\n"
        "as-published,sgd,none,1e-05,1e-05,1,1,0.25,\n"
        "put-right,sgd,none,suggested,,5,0,,\n",
    )
    assert index.rows(results)[0]["best"][0] == "sgd · none · LR 1e-05 · as-published: 25.00 %"


def test_pages_are_written_escape_titles_and_repeat(results):
    index.write(results, ROOT / "report")
    html, markdown = (results / "index.html").read_bytes(), (results / "index.md").read_bytes()
    assert (
        b'href="a-study/report.html"' in html and b"The &lt;a-study&gt;" in html and b"<a-study>" not in html
    )
    assert f"{100 * accuracy(best()):.2f}".encode() in markdown and b"unfinished" not in html
    index.write(results, ROOT / "report")
    assert (html, markdown) == ((results / "index.html").read_bytes(), (results / "index.md").read_bytes())


@pytest.mark.parametrize("name", ["runs", "lr_ranges", "accuracy", "time"])
@pytest.mark.parametrize("damage", ["cut", "column", "cell", "bytes", "gone"])
def test_a_damaged_table_is_named(results, name, damage):
    path = results / f"a-study/tables/{name}.csv"
    whole = path.read_bytes()
    header, _, rest = whole.partition(b"\n")
    changed = {
        "cut": whole[: len(whole) // 2],
        "column": header + b"x\n" + rest,
        "cell": header + b"\n" + rest.replace(b"0", b"1", 1),
        "bytes": whole[:-2] + b"\xff\n",
    }
    path.unlink() if damage == "gone" else path.write_bytes(changed[damage])
    message = (
        "table is missing" if damage == "gone" else r"table does not match its record \(truncated or edited\)"
    )
    with pytest.raises(
        InputError, match=rf"a-study/tables/{name}\.csv: {message}; delete its folder and run again$"
    ):
        index.rows(results)


def test_tables_without_their_record_are_refused(results):
    (results / "a-study/tables.json").unlink()
    with pytest.raises(InputError, match=r"a-study/tables\.json: record is missing"):
        index.rows(results)
