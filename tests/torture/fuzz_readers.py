"""Random damage to configurations, studies, records and published numbers: refused in one line or read, nothing else.

PYTHONPATH=workflow/scripts python tests/torture/fuzz_readers.py --inputs 100000 --seed 0
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from rangefinder import claims, prepared, published, published_curves, records, runs, study, validation
from rangefinder.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "config/studies"
READERS = {
    "study": 1,
    "config": 2,
    "json": 3,
    "resealed": 3,
    "csv": 3,
    "published": 1,
    "folder": 3,
}  # how often
RECORDS = (
    "run",
    "machine",
    "sweep",
    "range",
    "confirmation",
    "study",
    "dataset",
    "jobs",
    "unfinished",
    "derived",
    "progress",
    "timing",
    "start",
)
TABLES = (*records.TABLES.items(), ("sweep", records.SWEEP_COLUMNS))
FORMATS = (".csv", ".yaml", ".gz")
# What is read as a whole: the record that vouches for its tables, all files, and the reader.
FOLDERS = {
    "run": ("run.json", ("run.json", "machine.json", "epochs.csv", "steps.csv"), records.read_run),
    "sweep": ("sweep.json", ("sweep.json", "sweep.csv"), records.read_sweep),
    "derived": (
        "derived.json",
        ("derived.json", "derived/runs.csv", "derived/loss.svg"),
        lambda folder: records.read_derived(folder / "derived"),
    ),
}

# What a damaged or malicious file may hold instead of what belongs there.
HOSTILE = [
    "", "null", "~", "true", "yes", "-1", "0", "1", "1e400", "-.inf", ".nan", "9" * 40, "0x1f", "1_000", "1:30",
    "2001-01-01", "''", "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "&a [*a]", "*b", "!!binary aGk=", "!!set {a}",
    "!!python/name:os.system", "../../x", "/etc/passwd", "x.py:f", "<script>", "a|b", "\u202e", "\U0001f600",
    '"\\ud83d"', "suggested", "lr * k", "k / 0", "1e-320", "suggested" * 50, "\t", "\x00", "- a", "? a", "a: b: c",
    "{", "]", "'", '"', "|", ">", "%",
]  # fmt: skip
JSON_HOSTILE = [
    None,
    True,
    -1,
    0,
    1e308,
    10**40,
    "",
    "x" * 500,
    [],
    {},
    [[]],
    {"a": {}},
    "NaN",
    "../x",
    "\ud800",
]


def damaged_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut, repeated or inserted at one to four places."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0 and data:
            data[place % len(data)] = chance.randrange(256)
        elif kind == 1:
            del data[place : place + chance.randint(1, 40)]
        elif kind == 2:
            data[place:place] = data[place : place + chance.randint(1, 40)]
        elif kind == 3:
            data[place:place] = chance.choice(HOSTILE).encode("utf-8", "surrogatepass")
        else:
            del data[place:]
    return bytes(data)


def sealed(body: dict) -> bytes:
    """A record with a checksum that matches it."""
    body = {key: value for key, value in body.items() if key != "checksum"}
    checksum = records.sha256_text(records.canonical(body).encode("ascii", "replace").decode())
    return json.dumps(body | {"checksum": checksum}).encode()


def _plain_text(found: object) -> str:
    """What a reader returned, as text that is the same where the numbers are."""
    return json.dumps(
        found,
        sort_keys=True,
        default=lambda value: value.tolist() if isinstance(value, np.ndarray) else str(value),
    )


def _places(value: object, path: tuple = ()) -> list[tuple]:
    """Paths of every value inside plain data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, entry in inside for place in _places(entry, (*path, key)))]


def damaged_values(value: object, chance: random.Random, hostile: list) -> object:
    """One to three values replaced, removed, renamed or moved."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 3)):
        places = _places(value)[1:]
        if not places:
            return value
        *path, last = chance.choice(places)
        holder = value
        for key in path:
            holder = holder[key]
        kind = chance.randrange(4)
        if kind == 0:
            del holder[last]
        elif kind == 1 and isinstance(holder, dict):
            holder[chance.choice(["x", "name", "lr", "", "epochs", "a" * 80])] = holder.pop(last)
        elif kind == 2:
            other = value
            for key in chance.choice(places):
                other = other[key] if isinstance(other, dict | list) and _has(other, key) else other
            holder[last] = json.loads(json.dumps(other))
        else:  # a copy, for a further change may be inside it
            holder[last] = copy.deepcopy(chance.choice(hostile))
    return value


def _has(holder: dict | list, key: object) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


def damaged_yaml(source: bytes, chance: random.Random) -> bytes:
    """A YAML file, damaged as bytes or in its values."""
    if chance.random() < 0.5:
        return damaged_bytes(source, chance)
    damaged = damaged_values(_plain(source), chance, hostile_values())
    return yaml.safe_dump(damaged, allow_unicode=True).encode("utf-8", "replace")


@cache
def _plain(source: bytes) -> object:
    return json.loads(json.dumps(validation.parse_yaml(source, "study"), default=str))


def yaml_value(text: str) -> object:
    """What YAML makes of a hostile text where that is plain data, else the text."""
    try:
        return json.loads(json.dumps(yaml.safe_load(text)))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return text


@cache
def hostile_values() -> list[object]:
    """`yaml_value` of every hostile text."""
    return [yaml_value(text) for text in HOSTILE]


class Fuzz:
    """Inputs to every reader, in a folder of its own; counts what came of them.

    Args:
        folder: scratch.
        sources: a folder with one real record of each kind, and its tables.
        seed: of the damage.
    """

    def __init__(self, folder: Path, sources: Path, seed: int) -> None:
        self.folder, self.sources, self.chance = folder, sources, random.Random(seed)
        self.studies = [path.read_bytes() for path in sorted(STUDIES.glob("*.yaml"))]
        self.results: Counter[str] = Counter()
        self.uncaught: list[str] = []
        (folder / "config/studies").mkdir(parents=True)
        shutil.copytree(ROOT / "config/published", folder / "config/published")
        self.published = [path for path in sorted(folder.rglob("published/**/*")) if path.suffix in FORMATS]
        self.planned = study.load(STUDIES / "lenet5-mnist.yaml").record()
        (folder / "record").mkdir()
        swept = records.read_json(sources / "sweep.json", "sweep")
        # Where a sweep belongs: elsewhere it is refused, whole or not.
        self.whole = folder / swept["study"] / "lr_range" / swept["range_test"] / f"seed{swept['seed']}"
        shutil.copytree(sources, self.whole)
        self.found = {name: _plain_text(read(self.whole)) for name, (*_, read) in FOLDERS.items()}

    def once(self) -> None:
        """One input to one reader."""
        reader = self.chance.choices(list(READERS), list(READERS.values()))[0]
        try:
            getattr(self, f"_{reader}")()
        except InputError as error:
            if "\n" in str(error):
                self.uncaught.append(f"{reader}: a message of several lines: {error}")
            self.results[f"{reader}: refused"] += 1
        except Exception:
            self.results[f"{reader}: uncaught"] += 1
            self.uncaught.append(f"{reader}: {traceback.format_exc()[-1500:]}")
        else:
            self.results[f"{reader}: read"] += 1

    def _study(self) -> None:
        path = self.folder / "config/studies/s.yaml"
        path.write_bytes(damaged_yaml(self.chance.choice(self.studies), self.chance))
        trial = self.chance.choice(
            [None, None, {"epochs": 1, "seeds": 1, "train_samples": 10, "batch_divisor": 7}]
        )
        loaded = study.load(path, trial)
        # What a workflow goes on to do with it before its first job.
        records.canonical(loaded.jobs()).encode()
        records.csv_text(runs.run_table(loaded.record())).encode()

    def _config(self) -> None:
        given = {
            "studies": ["digits"], "results": "results", "trial": {"epochs": 2}, "data_dir": None, "download": True,
            "jobs_per_gpu": 1, "checkpoint_minutes": 5,
        }  # fmt: skip
        damaged = damaged_values(given, self.chance, hostile_values() + HOSTILE)
        if isinstance(damaged, dict):  # Snakemake refuses any other
            study.load_config(damaged)

    def _json(self) -> None:
        name = self.chance.choice(RECORDS)
        self._read(name, damaged_bytes((self.sources / f"{name}.json").read_bytes(), self.chance))

    def _resealed(self) -> None:
        """A record that was changed and given a checksum that matches: only its schema can tell."""
        name = self.chance.choice(RECORDS)
        content = json.loads((self.sources / f"{name}.json").read_text())
        damaged = damaged_values(content, self.chance, JSON_HOSTILE)
        self._read(name, sealed(damaged))

    def _read(self, name: str, data: bytes) -> None:
        path = self.folder / "record" / f"{name}.json"
        path.write_bytes(data)
        if name == "dataset":
            prepared.check_files(path.parent, prepared.read_description(path.parent))
        else:
            records.read_json(path, name)

    def _csv(self) -> None:
        name, columns = self.chance.choice(TABLES)
        path = self.folder / "record" / f"{name}.csv"
        path.write_bytes(damaged_bytes((self.sources / f"{name}.csv").read_bytes(), self.chance))
        # With the digest of the damaged bytes, so that the table itself is read.
        found = records.read_csv(path, columns)
        if set(found) != set(columns):
            raise AssertionError(f"columns {set(found)}")

    def _folder(self) -> None:
        """A record with its tables: one file damaged, gone, or another's; or a table whose digest was edited too."""
        name = self.chance.choice(list(FOLDERS))
        record, files, read = FOLDERS[name]
        file = self.chance.choice(files)
        kept = {path: path.read_bytes() for path in (self.whole / record, self.whole / file)}
        kind = self.chance.choice(("damaged", "damaged", "gone", "another's", "edited"))
        try:
            path = self.whole / file
            if kind == "gone":
                path.unlink()
            elif kind == "another's":
                path.write_bytes((self.whole / self.chance.choice(files)).read_bytes())
            else:
                path.write_bytes(damaged_bytes(kept[path], self.chance))
            if kind == "edited" and path.suffix != ".json":
                content = json.loads(kept[self.whole / record])
                content["files"][path.name] = records.sha256_file(path)
                (self.whole / record).write_bytes(sealed(content))
            found = read(self.whole)
            if kind != "edited" and _plain_text(found) != self.found[name]:
                raise AssertionError(f"{name}: damage to {file} was read as numbers")
        finally:
            for path, data in kept.items():
                path.write_bytes(data)

    def _published(self) -> None:
        path = self.chance.choice(self.published)
        whole = path.read_bytes()
        damaged = damaged_yaml if path.suffix == ".yaml" else damaged_bytes
        path.write_bytes(damaged(whole, self.chance))
        directory = self.folder / "config/published"
        try:
            if path.name == "claims.yaml":
                claims.read("lenet5-mnist", directory=directory)
            elif path.parent.name == "curves":
                published_curves.read("sgd_schedules", directory=directory)
            else:
                published.read(path.stem, self.planned, directory=directory)
        finally:
            path.write_bytes(whole)


def examples(folder: Path) -> Path:
    """A folder with one record of each kind, and the tables, as a trial of the digits study leaves them."""
    from rangefinder import confirmation, data, lr_range, progress, range_test, training

    trial = {"epochs": 1, "train_samples": 200, "test_samples": 50, "steps_per_decade": 10, "seeds": 1}
    content = validation.read_yaml(STUDIES / "digits.yaml")
    content["range_tests"]["sgd"]["confirm"] = {"steps": 2}
    folder.mkdir()
    (folder / "digits.yaml").write_text(json.dumps(content))
    loaded = study.load(folder / "digits.yaml", trial)
    test, run = loaded.range_tests["sgd"], next(iter(loaded.runs.values()))
    places = {"data_folder": folder / "data", "checkpoint_folder": folder / "checkpoints"}
    data.prepare(loaded.datasets[run.dataset], places["data_folder"])
    swept = folder / loaded.folder / "lr_range/sgd/seed0"
    range_test.run(test.spec(0), data_folder=places["data_folder"], folder=swept)
    found = lr_range.record([records.read_sweep(swept)])
    records.write_json(swept.parent / "range.json", found)
    found = records.read_range(swept.parent / "range.json") | {"status": "ok"}
    for file in (swept / "sweep.json", swept / "sweep.csv", swept.parent / "range.json"):
        shutil.move(file, folder)
    for name in ("lr_min", "suggested_lr", "lr_max"):  # so short a test need not find them
        found[name] = {"value": 0.1, "low": None, "high": None, "factor": None}
    confirmation.run(test.confirmation_spec(0), lr_range=found, folder=folder, **places)
    training.run(run.spec, lr_range=found, folder=folder, **places)
    shutil.copy(folder / "data/dataset.json", folder / "dataset.json")
    records.write_json(folder / "study.json", loaded.record())
    progress.write_jobs(folder, loaded)
    (folder / "progress/jobs.json").rename(folder / "jobs.json")
    note = {key: run.spec[key] for key in ("study", "run", "seed")} | {"spec_digest": runs.digest(run.spec)}
    note |= {
        "step": 3,
        "steps": 9,
        "advice": None,
        "micro_batch": None,
        "cause": "a signal",
        "time": "2001-01-01T00:00:00",
    }
    records.write_json(folder / "unfinished.json", note | {"status": "interrupted"})
    records.write_derived(folder / "derived", {"runs.csv": "run,seed\n", "loss.svg": "<svg/>\n"})
    identity = {"study": "digits", "kind": "train", "name": run.id, "spec_digest": runs.digest(run.spec)}
    records.write_json(folder / "progress.json", progress.Progress(identity).now | {"time": 1.5})
    took, moments = {"wall": 1.5, "cpu": 1.25}, progress.moments()
    records.write_json(folder / "start.json", {"start_s": took, **moments})
    names = ("data_s", "step_s", "validation_s", "test_s", "build_s", "warm_up_s")
    subject = dict.fromkeys(names, took) | {"steps_per_epoch": 4, "state_bytes": 1000}
    timed = {"device": "cpu", "subjects": {"a": subject}, "sweeps": {"sgd": 40}, "once_s": took}
    timed |= {"study": "digits", "start_s": took, "known": {}, "crowded": {"2": 1.5}, "moments": [moments]}
    records.write_json(folder / "timing.json", timed)
    for name in RECORDS:
        records.read_json(folder / f"{name}.json", name)
    return folder


def fuzz(inputs: int, seed: int) -> Fuzz:
    """Give the readers this many inputs."""
    # In memory where there is such a place: on some file systems opening a file takes as long as reading it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        found = Fuzz(Path(folder) / "fuzz", examples(Path(folder) / "examples"), seed)
        for _ in range(inputs):
            found.once()
        return found


def entry(found: Fuzz, inputs: int, seed: int) -> dict[str, object]:
    """What is stored of it."""
    counts = {
        outcome: sum(count for kind, count in found.results.items() if kind.endswith(f": {outcome}"))
        for outcome in ("refused", "read")
    }
    return {"inputs": inputs, "seed": seed, **counts, "uncaught": found.uncaught}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    result = fuzz(options.inputs, options.seed)
    for kind, count in sorted(result.results.items()):
        print(f"{count:8,}  {kind}")
    print(f"{options.inputs:,} inputs, {len(result.uncaught)} uncaught, {time.monotonic() - start:.0f} s")
    for text in result.uncaught[:20]:
        print(text)
    sys.exit(1 if result.uncaught else 0)
