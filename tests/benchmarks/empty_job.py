"""A training job that trains next to nothing, as Snakemake starts one; tells what its time went to.

    python tests/benchmarks/empty_job.py DATA FOLDER CONFIG STARTED

CONFIG is Snakemake's, as JSON. STARTED is `time.monotonic()` of the process that starts this one: what passes before
this line is the interpreter's.
Prints {"parts": {part: [wall, processor] seconds}, "ended": [wall, processor] clocks as the script comes to its end}. A
part inside another counts for itself alone; what passes after the script is the end of the process.
"""

import time

BEGAN = time.monotonic(), time.process_time()

import builtins  # noqa: E402
import json  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
parts: dict[str, list[float]] = {}
_open: list[str] = []
_mark = list(BEGAN)


def _charge() -> None:
    """Put the time since the last change of part on the part that is open."""
    now = time.monotonic(), time.process_time()
    spent = parts.setdefault(_open[-1] if _open else "the rest", [0.0, 0.0])
    for clock in (0, 1):
        spent[clock] += now[clock] - _mark[clock]
        _mark[clock] = now[clock]


class Counted:
    """Charge what runs inside the block to a part."""

    def __init__(self, part: str) -> None:
        self.part = part

    def __enter__(self) -> None:
        _charge()
        _open.append(self.part)

    def __exit__(self, *_: object) -> None:
        _charge()
        _open.pop()


def count(owner: object, name: str, part: str) -> None:
    """Charge every call of a function, or the ends of a context manager's block, to a part."""
    plain = getattr(owner, name)

    def call(*args: object, **kwargs: object) -> object:
        with Counted(part):
            made = plain(*args, **kwargs)
        return _Ends(made, part) if hasattr(made, "__enter__") else made

    setattr(owner, name, call)


class _Ends:
    def __init__(self, block, part: str) -> None:
        self.block, self.part = block, part

    def __enter__(self) -> object:
        with Counted(self.part):
            return self.block.__enter__()

    def __exit__(self, *error: object) -> object:
        with Counted(self.part):
            return self.block.__exit__(*error)


def count_imports() -> None:
    plain = builtins.__import__

    def imported(name: str, *args: object, **kwargs: object) -> object:
        if "import torch" in _open:
            return plain(name, *args, **kwargs)
        with Counted("import torch" if name == "torch" else "other imports"):
            return plain(name, *args, **kwargs)

    builtins.__import__ = imported


def main() -> None:
    data_folder, folder, started = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[4])
    parts["interpreter"] = [BEGAN[0] - started, BEGAN[1]]
    sys.path.insert(0, str(SCRIPTS))
    count_imports()
    import rangefinder.devices

    count(rangefinder.devices, "lease", "lease")
    from rangefinder import data, records, training  # as the script does, a moment later

    count(data, "load", "data")
    count(training.Trainer, "__init__", "model and optimizer")
    count(training.Trainer, "train", "one step and one evaluation")
    count(records, "write_run", "writing")
    parameters = {
        "dataset": {"name": "digits", "train_samples": 10, "test_samples": 10},
        "model": {"name": "LeNetSmall"},
        "optimizer": {"name": "Adam"},
        "schedule": {"name": "none"},
        "lr": 1e-3,
        "batch_size": 10,
        "epochs": 1,
        "precision": "fp32",
        "seed": 0,
    }
    job = SimpleNamespace(
        threads=1,
        rule="train",
        log=[str(folder / "study" / "logs" / "train" / "empty.log")],
        resources={"gpu": 1},
        config=json.loads(sys.argv[3]),
        input=type("Input", (dict,), {"data": [str(data_folder / "dataset.json")]})(),
        output=SimpleNamespace(run=str(folder / "study" / "runs" / "empty" / "run.json")),
        params=SimpleNamespace(
            spec={"study": "study", "run": "empty", "seed": 0, "range_test": None, "parameters": parameters}
        ),
    )
    with Counted("the rest"):
        runpy.run_path(str(SCRIPTS / "train.py"), init_globals={"snakemake": job})
    print(json.dumps({"parts": parts, "ended": [time.monotonic(), time.process_time()]}))


if __name__ == "__main__":
    main()
