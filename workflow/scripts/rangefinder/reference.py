"""The reference of every configuration key (config/README.md), written from the schemas.

Run ``PYTHONPATH=workflow/scripts python -m rangefinder.reference > config/README.md`` after changing a schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import validation

HEAD = """\
# Configuration

`config.yaml` says which studies are run and where data and results are; each file of `studies/` is one study. Both are
checked before any job starts: a misspelt key or a wrong value is named, with what is allowed. Any key of
`config.yaml` can be given on the command line:

    snakemake --cores all --config studies=lenet5-mnist data_dir=/path/to/data download=false
    snakemake --cores all --config 'trial={epochs: 2, seeds: 1, train_samples: 500}'

A trial shrinks a study: at most so many epochs, seeds and samples. Where its short sweeps find no LR, runs that need
one take the middle of the swept range (in log10), and report and log say so. Milestones and warm-ups that are counted
in epochs shrink in proportion. Where a batch is smaller than the study's, by `batch_divisor` or for want of samples,
the run's `reference_batch_size` shrinks with it, to a number that need not be whole, and `k` stays the study's. Cells
keep the names they have in the study; the results are kept apart, in `results/<study>-trial`. A study's name is its
file's, and may be neither that of a rule nor end in `-trial` or `-plan`.

An LR may be a number, or a product or quotient of numbers and names, such as `suggested / 10` or `0.05 * k`:

| name | meaning |
| --- | --- |
| `lr_min`, `suggested`, `lr_max` | the LR range extracted from the run's range test |
| `k`, `sqrt_k` | `batch_size / reference_batch_size` (linear scaling) and its square root |
| `lr` | in a schedule: the run's own LR, as in `max_lr: lr * 2` |

A run's id is `[prefix-]optimizer-schedule-bs<batch>[-lr<lr>][-<setting><value>…]-seed<k>`. Two sweeps that name
the same run with the same parameters share it.
"""


def _kind(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What values an entry takes, in a few words."""
    if "$ref" in entry:
        entry = definitions[entry["$ref"].rpartition("/")[2]] | {
            k: v for k, v in entry.items() if k != "$ref"
        }
    if "enum" in entry:
        return ", ".join(map(validation.word, entry["enum"]))
    if "x-allowed" in entry:
        return entry["x-allowed"]
    if "oneOf" in entry or "anyOf" in entry:
        return " or ".join(
            dict.fromkeys(_kind(option, definitions) for option in entry.get("oneOf", entry.get("anyOf")))
        )
    kind = entry.get("type", "any")
    text = " or ".join([kind] if isinstance(kind, str) else kind)
    for rule, words in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to")):
        if rule in entry:
            text += f" {words} {entry[rule]}"
    return text


def _rows(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", [])
    for key, entry in schema.get("properties", {}).items():
        default = "required" if key in required else f"`{entry['default']}`" if "default" in entry else ""
        cells = (f"`{key}`", _kind(entry, definitions), default, entry.get("description", ""))
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _table(title: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"\n## {title}\n",
            "| key | value | default | meaning |",
            "| --- | --- | --- | --- |",
            *_rows(schema, definitions),
            "",
        ]
    )


def reference() -> str:
    """The text of config/README.md."""
    config, study = validation.schema("config"), validation.schema("study")
    definitions = study["$defs"]
    trial = next(option for option in config["properties"]["trial"]["oneOf"] if option["type"] == "object")
    parts = [
        ("config.yaml", config),
        ("config.yaml: trial", trial),
        ("A study", study),
        ("A study: dataset", definitions["dataset"]),
        ("A study: model", definitions["model"]),
        ("A study: run, and every `set` (run settings)", definitions["run"]),
        ("A study: an entry of schedules", definitions["schedule"]),
        ("A study: the warm-up of a schedule", definitions["warmup"]),
        ("A study: an entry of range_tests", study["properties"]["range_tests"]["additionalProperties"]),
        (
            "A study: confirm of a range test",
            study["properties"]["range_tests"]["additionalProperties"]["properties"]["confirm"],
        ),
        ("A study: an entry of sweeps", study["properties"]["sweeps"]["additionalProperties"]),
    ]
    return HEAD + "".join(_table(title, schema, definitions) for title, schema in parts)


if __name__ == "__main__":
    print(reference(), end="")
