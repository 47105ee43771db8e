"""Random damage to configurations, studies and records: the readers refuse it in one line or read it, nothing else.

PYTHONPATH=workflow/scripts python tests/torture/fuzz_readers.py --inputs 100000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import yaml
from rangefinder import records, study, validation
from rangefinder.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "config/studies"

# What a damaged or malicious file may hold instead of what belongs there.
HOSTILE = [
    "", "null", "~", "true", "yes", "-1", "0", "1", "1e400", "-.inf", ".nan", "9" * 40, "0x1f", "1_000", "1:30",
    "2001-01-01", "''", "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "&a [*a]", "*b", "!!binary aGk=", "!!set {a}",
    "!!python/name:os.system", "../../x", "/etc/passwd", "x.py:f", "<script>", "a|b", "\u202e", "\U0001f600",
    "suggested", "lr * k", "k / 0", "1e-320", "suggested" * 50, "\t", "\x00", "- a", "? a", "a: b: c", "{", "]", "'",
    '"', "|", ">", "%",
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
        else:
            holder[last] = chance.choice(hostile)
    return value


def _has(holder: dict | list, key: object) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


def study_text(chance: random.Random, sources: list[bytes]) -> bytes:
    """A study's file, damaged as bytes or in its values."""
    source = chance.choice(sources)
    if chance.random() < 0.5:
        return damaged_bytes(source, chance)
    values = [yaml_value(text) for text in HOSTILE]
    return yaml.safe_dump(damaged_values(_plain(source), chance, values), allow_unicode=True).encode(
        "utf-8", "replace"
    )


def _plain(source: bytes) -> object:
    return json.loads(json.dumps(validation.parse_yaml(source, "study"), default=str))


def yaml_value(text: str) -> object:
    """What YAML makes of a hostile text where that is plain data, else the text."""
    try:
        return json.loads(json.dumps(yaml.safe_load(text)))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return text


class Fuzz:
    """Inputs to every reader, in a folder of its own; counts what came of them.

    Args:
        folder: scratch.
        run: folder of a real run's record.
        seed: of the damage.
    """

    def __init__(self, folder: Path, run: Path, seed: int) -> None:
        self.folder, self.run, self.chance = folder, run, random.Random(seed)
        self.sources = [path.read_bytes() for path in sorted(STUDIES.glob("*.yaml"))]
        self.results: Counter[str] = Counter()
        self.uncaught: list[str] = []
        (folder / "config/studies").mkdir(parents=True)
        shutil.copytree(ROOT / "config/published", folder / "config/published")
        shutil.copytree(run, folder / "record")

    def once(self) -> None:
        """One input to one reader."""
        reader = self.chance.choices(("study", "config", "json", "resealed", "csv"), (1, 2, 3, 3, 3))[0]
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
        path.write_bytes(study_text(self.chance, self.sources))
        trial = self.chance.choice(
            [None, None, {"epochs": 1, "seeds": 1, "train_samples": 10, "batch_divisor": 7}]
        )
        study.load(path, trial)

    def _config(self) -> None:
        given = {
            "studies": ["digits"], "results": "results", "trial": {"epochs": 2}, "data_dir": None, "download": True,
            "jobs_per_gpu": 1, "checkpoint_minutes": 5,
        }  # fmt: skip
        damaged = damaged_values(given, self.chance, [yaml_value(text) for text in HOSTILE] + HOSTILE)
        if isinstance(damaged, dict):  # Snakemake refuses any other
            study.load_config(damaged)

    def _json(self) -> None:
        name, schema = self.chance.choice([("run.json", "run"), ("machine.json", "machine")])
        path = self.folder / "record" / name
        path.write_bytes(damaged_bytes((self.run / name).read_bytes(), self.chance))
        records.read_json(path, schema)

    def _resealed(self) -> None:
        """A record that was changed and given a checksum that matches: only its schema can tell."""
        name, schema = self.chance.choice([("run.json", "run"), ("machine.json", "machine")])
        content = json.loads((self.run / name).read_text())
        damaged = damaged_values(content, self.chance, JSON_HOSTILE)
        body = {key: value for key, value in damaged.items() if key != "checksum"}
        path = self.folder / "record" / name
        text = json.dumps(
            body
            | {"checksum": records.sha256_text(records.canonical(body).encode("ascii", "replace").decode())}
        )
        path.write_text(text)
        records.read_json(path, schema)

    def _csv(self) -> None:
        name = self.chance.choice(["epochs", "steps"])
        path = self.folder / "record" / f"{name}.csv"
        path.write_bytes(damaged_bytes((self.run / f"{name}.csv").read_bytes(), self.chance))
        # With the digest of the damaged bytes, so that the table itself is read.
        columns = records.read_csv(path, records.TABLES[name])
        if set(columns) != set(records.TABLES[name]):
            raise AssertionError(f"columns {set(columns)}")


def example_run(folder: Path) -> Path:
    """A record as a run of the digits study leaves it."""
    from rangefinder import data, training

    loaded = study.load(STUDIES / "digits.yaml", {"epochs": 2, "train_samples": 200, "test_samples": 50})
    run = loaded.runs[next(iter(loaded.runs))]
    data.prepare(loaded.datasets[run.dataset], folder / "data")
    range_record = {"range_test": "sgd", "status": "ok", "checksum": "0" * 64} | {
        name: {"value": 0.1, "low": None, "high": None, "factor": None}
        for name in ("lr_min", "suggested_lr", "lr_max")
    }
    training.run(
        run.spec,
        lr_range=range_record,
        data_folder=folder / "data",
        folder=folder / "run",
        checkpoint_folder=folder / "checkpoints",
        notes_folder=folder / "unfinished",
    )
    return folder / "run"


def fuzz(inputs: int, seed: int) -> Fuzz:
    """Give the readers this many inputs."""
    with tempfile.TemporaryDirectory() as folder:
        found = Fuzz(Path(folder) / "fuzz", example_run(Path(folder)), seed)
        for _ in range(inputs):
            found.once()
        return found


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
