"""Reads YAML and holds it against a closed JSON schema; what is wrong is said in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from .errors import InputError

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


class _Loader(yaml.SafeLoader):
    """Safe loading that reads 1e-5 as the number it is and refuses a key that stands twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        try:
            twice = key in keys
            keys.add(key)
        except TypeError:
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be plain text", key_node.start_mark
            ) from None
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str | bytes, file: object) -> Any:
    """YAML text as plain values.

    Raises:
        InputError: not YAML, a duplicate key, or a tag that would make anything but plain values.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}not valid YAML: {problem}", file=file) from error


def read_yaml(path: Path | str) -> Any:
    """`parse_yaml` of a file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    return parse_yaml(data, path)


@cache
def schema(name: str) -> dict:
    """A schema of workflow/schemas by its short name."""
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text())


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema(name))


def check(value: Any, name: str, file: object) -> None:
    """Hold a value against a schema.

    Raises:
        InputError: the first thing that is wrong, with key, value and what is allowed.
    """
    try:
        errors = sorted(
            _validator(name).iter_errors(value),
            key=lambda error: (list(map(str, error.absolute_path)), error.validator),
        )
    except RecursionError:
        raise InputError("lists or mappings within one another too deeply", file=file) from None
    if errors:
        raise _explain(_deepest(errors[0]), file)
    for path, inner in _leaves(value):
        key = ".".join(map(str, path)) or None
        if (
            isinstance(inner, int | float) and not abs(inner) <= sys.float_info.max
        ):  # whole ones have no limit
            raise InputError("not usable", file=file, key=key, value=inner, allowed="a finite number")
        if isinstance(inner, str) and not _is_unicode(inner):
            raise InputError("not usable", file=file, key=key, value=inner, allowed="characters of Unicode")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written to a file; YAML's escapes also make halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _leaves(value: Any) -> Iterator[tuple[tuple, Any]]:
    """Every key and every single value of a nested one, with its place; however deep, for users write anything."""
    left: list[tuple[tuple, Any]] = [((), value)]
    while left:
        path, inner = left.pop()
        if isinstance(inner, Mapping | list):
            entries = inner.items() if isinstance(inner, Mapping) else enumerate(inner)
            for key, entry in entries:
                yield path, key
                left.append(((*path, key), entry))
        else:
            yield path, inner


def _deepest(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Inside oneOf/anyOf, the alternative that went furthest: what the user most likely meant."""
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), inner.validator != "type"))
    return error


def _explain(error: jsonschema.ValidationError, file: object) -> InputError:
    path = [str(part) for part in error.absolute_path]
    key = ".".join(path) or None
    rule, wanted, value = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties" and isinstance(value, Mapping):
        known = error.schema.get("properties", {})
        extra = next(name for name in value if name not in known)
        return InputError("unknown key", file=file, key=key, value=extra, allowed=sorted(known))
    if rule == "propertyNames" or (error.parent is not None and error.parent.validator == "propertyNames"):
        return InputError(
            "not usable as a name", file=file, key=key, value=value, allowed=_text(error.schema)
        )
    if rule == "required":
        missing = next(name for name in wanted if name not in value)
        return InputError(f"the key {missing!r} is missing", file=file, key=key)
    if rule == "enum":
        return InputError(
            "unknown value", file=file, key=key, value=value, allowed=[word(item) for item in wanted]
        )
    return InputError("not usable", file=file, key=key, value=value, allowed=_text(error.schema))


def word(value: Any) -> str:
    """A value as YAML writes it."""
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, int | float) or isinstance(value, bool)
        else str(value)
    )


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _text(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in words."""
    if "x-allowed" in schema:
        return schema["x-allowed"]
    if "enum" in schema:
        return ", ".join(map(word, schema["enum"]))
    types = schema.get("type", [])
    text = (
        " or ".join(_KINDS[kind] for kind in ([types] if isinstance(types, str) else types))
        or "another value"
    )
    limits = []
    for rule, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if rule in schema:
            limits.append(f"{words} {schema[rule]}")
    if schema.get("minLength") or schema.get("minProperties") or schema.get("minItems"):
        limits.append("that is not empty")
    if "pattern" in schema:
        limits.append(f"matching {schema['pattern']}")
    return " ".join([text, " and ".join(limits)]).strip()


def defaults(name: str) -> dict[str, Any]:
    """The default of every top-level key of a schema that has one."""
    return {key: entry["default"] for key, entry in schema(name)["properties"].items() if "default" in entry}


def check_part(value: Any, name: str, part: str, file: object, key: str) -> None:
    """Hold a value against one of a schema's definitions; messages name `key`."""
    definition = {"$ref": f"#/$defs/{part}", "$defs": schema(name)["$defs"]}
    error = next(iter(jsonschema.Draft202012Validator(definition).iter_errors(value)), None)
    if error is not None:
        explained = _explain(_deepest(error), file)
        raise InputError(
            explained.message,
            file=file,
            key=key,
            value=explained.value,
            allowed=str(explained).partition("allowed: ")[2] or None,
        )
