"""The configuration's reference is what the schemas say, and every key is described."""

from pathlib import Path

import pytest
from rangefinder import reference, validation

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_up_to_date():
    assert (ROOT / "config/README.md").read_text() == reference.reference()


def objects(schema, path=""):
    """Every schema of a mapping inside a schema, with where it stands."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(value, f"{path}/{index}")


# Their remaining keys are the arguments of what they name, and checked there.
OPEN = {"/$defs/model", "/$defs/optimizer"}


@pytest.mark.parametrize("name", ["config", "study"])
def test_schemas_are_closed_and_every_key_is_described(name):
    for path, schema in objects(validation.schema(name)):
        assert schema.get("additionalProperties") is False or path in OPEN, path
        for key, entry in schema["properties"].items():
            assert entry.get("description", "").strip(), f"{path}/{key}"
