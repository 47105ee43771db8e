"""The only reader and writer of what is on disk: atomic, versioned, checked.

A JSON record carries a ``checksum`` over its own canonical text, and a run record the sha256 of each of
its tables, so that a truncated, foreign or hand-edited record is named and refused, never averaged in. What is made
from records has a record too: tables.json and figures.json hold the sha256 of each file of the folder beside them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .errors import NO_VALUE, InputError

FORMAT = 1
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EPOCH_COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
)
STEP_COLUMNS = ("step", "lr", "loss")
SWEEP_COLUMNS = ("step", "lr", "loss", "accuracy", "validation_loss")
AGAIN = "; delete it and run again"
# Of files that Snakemake does not miss by themselves: nothing but the record beside them is asked for.
WHOLE = "; delete its folder and run again"
TABLES = {"epochs": EPOCH_COLUMNS, "steps": STEP_COLUMNS}


def canonical(value: Any) -> str:
    """The one JSON text of a plain value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing -------------------------------------------------------------------------------------------


def write_text(path: Path | str, text: str, *, lasting: bool = True) -> None:
    """Write a whole file or nothing: temporary sibling, fsync, rename, fsync of the folder.

    The temporary name is fixed, so that a killed writer leaves at most one file, which the next overwrites.

    Args:
        lasting: whether the file has to outlive a power cut, which costs a wait for the disk.
    """
    write_bytes(path, text.encode(), lasting=lasting)


def write_bytes(path: Path | str, data: bytes, *, lasting: bool = True) -> None:
    """`write_text` for bytes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise InputError(f"cannot be written: {error.strerror}", file=path) from error
    if lasting:
        settle(path.parent)


def check_writable(folder: Path | str) -> None:
    """Refuse a folder that no file can be made in, by name; a missing one is made."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=Path(folder)) from error


def settle(folder: Path) -> None:
    """Have a folder's new names on disk (fsync), where the file system can do that for a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path | str, record: Mapping[str, Any], *, lasting: bool = True) -> None:
    """Write a JSON record with its ``format`` and ``checksum``."""
    body = {key: value for key, value in record.items() if key != "checksum"} | {"format": FORMAT}
    body["checksum"] = sha256_text(canonical(body))
    text = json.dumps(body, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text, lasting=lasting)


def csv_text(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> str:
    """A table as CSV text; None and NaN become empty cells, numbers their shortest exact form."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    texts = [[_cell(value) for value in values] for values in columns.values()]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*texts, strict=True))
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(value)  # numpy and Python print the shortest text that reads back to the same number


def write_csv(path: Path | str, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Write a table atomically."""
    write_text(path, csv_text(columns))


def derived_record(folder: Path | str) -> Path:
    """The record of a folder of files made from records: beside it, as tables.json is beside tables/."""
    folder = Path(folder)
    return folder.with_name(f"{folder.name}.json")


def write_derived(folder: Path | str, texts: Mapping[str, str]) -> None:
    """Write files made from records (tables, figures), then the record of their digests.

    Args:
        folder: where they go.
        texts: content of each file by its name.
    """
    for name, text in texts.items():
        write_text(Path(folder) / name, text)
    write_json(derived_record(folder), {"files": {name: sha256_text(text) for name, text in texts.items()}})


def write_run(
    folder: Path | str,
    run: Mapping[str, Any],
    machine: Mapping[str, Any],
    epochs: Mapping[str, Sequence[Any]],
    steps: Mapping[str, Sequence[Any]],
) -> None:
    """Write one run's record; run.json comes last, so that it only ever describes whole files."""
    folder = Path(folder)
    texts = {"epochs.csv": csv_text(epochs), "steps.csv": csv_text(steps)}
    for name, text in texts.items():
        write_text(folder / name, text)
    # The times are in no digest, for two machines' differ; what they are the times of is said here.
    write_json(folder / "machine.json", {**machine, "spec_digest": run["spec_digest"]})
    write_json(
        folder / "run.json", {**run, "files": {name: sha256_text(text) for name, text in texts.items()}}
    )


# --- reading -------------------------------------------------------------------------------------------


@cache
def _validator(name: str):
    import jsonschema

    with open(SCHEMAS / f"{name}-record.schema.yaml") as file:
        return jsonschema.Draft202012Validator(yaml.safe_load(file))


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def read_json(path: Path | str, schema: str) -> dict[str, Any]:
    """Read a JSON record and check its format version, schema and checksum.

    Args:
        path: the file.
        schema: the kind of record, as its schema in workflow/schemas is named (``run``, ``machine``, ``sweep``, …).

    Raises:
        InputError: missing, unreadable, truncated, foreign, of another version, or edited by hand.
    """
    path = Path(path)
    again = WHOLE if schema == "machine" else AGAIN
    try:
        record = json.loads(path.read_bytes(), parse_constant=_not_finite)
    except FileNotFoundError as error:
        raise InputError(f"record is missing{WHOLE if again == WHOLE else ''}", file=path) from error
    except OSError as error:
        raise InputError(f"record cannot be read: {error.strerror}", file=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"record is truncated or not JSON: {error}{again}", file=path) from error
    if not isinstance(record, dict):
        raise InputError(f"record is not a JSON object{again}", file=path, value=type(record).__name__)
    if record.get("format") != FORMAT:
        raise InputError(
            f"record has another format version{again}",
            file=path,
            key="format",
            value=record.get("format", NO_VALUE),
            allowed=str(FORMAT),
        )
    error = next(iter(_validator(schema).iter_errors(record)), None)
    if error is not None:
        raise InputError(
            f"not a {schema} record: {error.message[:300]}{again}",
            file=path,
            key=".".join(map(str, error.absolute_path)) or None,
        )
    body = {key: value for key, value in record.items() if key != "checksum"}
    try:
        text = canonical(body)
    except ValueError as error:
        raise InputError(f"record holds a number that is not finite: {error}{again}", file=path) from error
    try:
        same = record["checksum"] == sha256_text(text)
    except UnicodeEncodeError as error:
        raise InputError(f"record is not valid text{again}", file=path) from error
    if not same:
        raise InputError(
            f"record was changed after it was written (its checksum does not match){again}",
            file=path,
            key="checksum",
        )
    return record


def _read_bytes(path: Path, sha256: str | None) -> bytes:
    """A table's or figure's bytes, held against their digest where the record that owns it has one."""
    kind = "figure" if path.suffix == ".svg" else "table"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{kind} is missing{WHOLE}", file=path) from error
    except OSError as error:
        raise InputError(f"{kind} cannot be read: {error.strerror}", file=path) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{kind} does not match its record (truncated or edited){WHOLE}", file=path)
    return data


def read_derived(folder: Path | str) -> dict[str, str]:
    """Text of every file that `write_derived` wrote, by name, each held against its digest.

    Raises:
        InputError: the record or one of the files is missing, truncated or edited.
    """
    folder = Path(folder)
    files = read_json(derived_record(folder), "derived")["files"]
    texts = {}
    for name, digest in files.items():
        try:
            texts[name] = _read_bytes(folder / name, digest).decode()
        except UnicodeDecodeError as error:
            raise InputError(f"not text: {error}{WHOLE}", file=folder / name) from error
    return texts


# The kinds of record by their files' names.
KINDS = {f"{kind}.json": kind for kind in ("run", "sweep", "range", "confirmation", "study")}


def check(path: Path | str) -> None:
    """Hold a file of a study's results against its record, if it is a record or a record vouches for it.

    Raises:
        InputError: it is missing, truncated, foreign or edited.
    """
    path = Path(path)
    if path.name in ("sweep.json", "sweep.csv"):
        read_sweep(path.parent)
    elif path.name == "range.json":
        read_range(path)
    elif path.name in KINDS:
        read_json(path, KINDS[path.name])
    else:
        for folder in (path.parent, path.with_suffix("")):  # of a table; the folder itself, or its record
            if derived_record(folder).exists():
                read_derived(folder)


def read_csv(path: Path | str, columns: Sequence[str], sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read a table of numbers; empty cells become NaN.

    Args:
        columns: the header it must have, in order.
        sha256: digest of the file's bytes, from the record that owns it.

    Returns:
        float64 arrays [rows] by column name.
    """
    path = Path(path)
    data = _read_bytes(path, sha256)
    try:
        rows = list(csv.reader(io.StringIO(data.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"table is not CSV: {error}", file=path) from error
    if not rows:
        raise InputError("table is empty", file=path, allowed=f"the header {','.join(columns)}")
    if tuple(rows[0]) != tuple(columns):
        raise InputError(
            "table has other columns", file=path, value=",".join(rows[0]), allowed=",".join(columns)
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns):
            raise InputError(f"line {number} has {len(row)} cells, not {len(columns)}", file=path)
    try:
        values = np.array(
            [[float(cell) if cell else np.nan for cell in row] for row in rows[1:]], dtype=np.float64
        )
    except ValueError as error:
        raise InputError(f"table holds something that is not a number: {error}", file=path) from error
    values = values.reshape(len(rows) - 1, len(columns))
    return {name: values[:, index] for index, name in enumerate(columns)}


class StoredTable(Mapping):
    """A run's table that stays on disk, checked when it is named and read when a column is asked for.

    Args:
        folder: of the run.
        name: one of `TABLES`.
        run: the content of its run.json.

    Raises:
        InputError: now or when it is read, as `read_csv`.
    """

    def __init__(self, folder: Path, name: str, run: Mapping[str, Any]) -> None:
        self._path, self._columns = folder / f"{name}.csv", TABLES[name]
        self._sha256 = run["files"][self._path.name]
        _read_bytes(self._path, self._sha256)

    def __getitem__(self, column: str) -> np.ndarray:
        return _columns(self._path, self._columns, self._sha256)[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


# The columns of a table are asked for one after another; the table before it is not needed again.
_columns = lru_cache(maxsize=1)(read_csv)


def read_run(folder: Path | str, *, tables: Sequence[str] = ("epochs", "steps")) -> dict:
    """Read one run: ``{"run": …, "machine": …, "epochs": {column: array}, "steps": {column: array}}``.

    Args:
        tables: which tables to read (checked against the digests in run.json).

    Raises:
        InputError: as `read_json` and `read_csv`, or machine.json is another run's.
    """
    folder = Path(folder)
    run = read_json(folder / "run.json", "run")
    machine = read_json(folder / "machine.json", "machine")
    # Records of before machine.json said so are still read.
    if machine.get("spec_digest", run["spec_digest"]) != run["spec_digest"]:
        raise InputError(
            f"record of another run than the run.json beside it{WHOLE}",
            file=folder / "machine.json",
            key="spec_digest",
            value=machine["spec_digest"],
            allowed=run["spec_digest"],
        )
    result: dict[str, Any] = {"run": run, "machine": machine}
    for name in tables:
        result[name] = read_csv(folder / f"{name}.csv", TABLES[name], run["files"][f"{name}.csv"])
    return result


def _check_place(record: Mapping[str, Any], file: Path, study: str | None, place: Sequence[str]) -> None:
    """Refuse a record that was made for another place than it lies in.

    Args:
        study: whose results it is among; by default the one that the folder is named after.
        place: keys of the record that name its folders inside lr_range/, the outermost first.
    """
    names = [*(folder.name for folder in file.absolute().parents), "", "", ""]
    folders = dict(zip(reversed(place), names, strict=False))
    folders["study"] = study or names[len(place) + 1]  # above lr_range/
    for key, name in folders.items():
        if name != (f"seed{record[key]}" if key == "seed" else record[key]):
            raise InputError(
                f"record belongs elsewhere, for it is of another {key.replace('_', ' ')} than its folder{AGAIN}",
                file=file,
                key=key,
                value=record[key],
                allowed=name,
            )


def read_range(file: Path | str, study: str | None = None) -> dict[str, Any]:
    """Read the LR range of a range test: range.json in the folder named after it.

    Args:
        study: folder of the study whose it must be; by default the name of the folder that it lies in.

    Raises:
        InputError: as `read_json`, or it is of another study or range test.
    """
    entry = read_json(file, "range")
    _check_place(entry, Path(file), study, ("range_test",))
    return entry


def read_sweep(folder: Path | str, study: str | None = None) -> dict:
    """Read one range test: ``{"sweep": …, "columns": {column: array}, "file": the table's path}``.

    Args:
        folder: ``<study>/lr_range/<range test>/seed<k>``.
        study: as of `read_range`.

    Raises:
        InputError: as `read_json` and `read_csv`, or it is of another study, range test or seed.
    """
    folder = Path(folder)
    sweep = read_json(folder / "sweep.json", "sweep")
    _check_place(sweep, folder / "sweep.json", study, ("range_test", "seed"))
    return {
        "sweep": sweep,
        "columns": read_csv(folder / "sweep.csv", SWEEP_COLUMNS, sweep["files"]["sweep.csv"]),
        "file": folder / "sweep.csv",
    }


def write_sweep(
    folder: Path | str, sweep: Mapping, machine: Mapping, columns: Mapping[str, Sequence]
) -> None:
    """Write one range test's record; sweep.json comes last."""
    folder = Path(folder)
    text = csv_text(columns)
    write_text(folder / "sweep.csv", text)
    write_json(folder / "machine.json", machine)
    write_json(folder / "sweep.json", {**sweep, "files": {"sweep.csv": sha256_text(text)}})
