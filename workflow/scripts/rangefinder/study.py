"""The configuration and the studies, read from their files and checked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import validation
from .errors import InputError
from .expansion import Expansion
from .runs import Study

# What a study would share its target's name with: the workflow's rules, and the folders beside the studies' own.
RULES = (
    "all plan resolve_study prepare_data check_parts range_test extract_lr_range confirm_lr_range train aggregate "
    "draw_figures write_report time_start time_steps write_plan"
)
TAKEN = {*RULES.split(), "data", "compare"}


CONFIG = "config/config.yaml"


def check_config_file(file: Path | str) -> None:
    """Read a file of configuration as data, before Snakemake does, which evaluates YAML that asks for it.

    Raises:
        InputError: it is no YAML, no mapping, has a key twice, or asks for Python to be evaluated in it.
    """
    content = validation.read_yaml(file)
    if not isinstance(content, Mapping):
        raise InputError("not usable", file=file, value=content, allowed="a mapping")
    if "__use_yte__" in content:
        raise InputError(
            "not usable, for YAML is read as data here",
            file=file,
            key="__use_yte__",
            value=content["__use_yte__"],
            allowed="keys of the configuration, without expressions in Python",
        )


def load_config(
    given: Mapping[str, Any], file: str = CONFIG, elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The workflow's configuration, checked, with defaults.

    Values from the command line arrive as text where YAML made them so; `studies` may be one name there.

    Args:
        given: by key.
        file: where the keys stand, for messages.
        elsewhere: where single keys stand instead.
    """
    try:
        return _load_config(given, file)
    except InputError as error:
        key = str(error.value) if error.key is None else error.key.partition(".")[0]
        raise error.of_file((elsewhere or {}).get(key, error.file)) from error.__cause__


def _load_config(given: Mapping[str, Any], file: str) -> dict[str, Any]:
    given = dict(given)
    if isinstance(given.get("studies"), str):
        given["studies"] = [given["studies"]]
    for key, entry in validation.schema("config")["properties"].items():
        # Snakemake hands over `true` and `{epochs: 2}` of the command line as text.
        if isinstance(given.get(key), str) and "string" not in entry.get("type", "null"):
            given[key] = _parsed(given[key], key, file)
        elif isinstance(given.get(key), Mapping):
            given[key] = {
                name: _parsed(value, key, file) if isinstance(value, str) else value
                for name, value in given[key].items()
            }
    validation.check(given, "config", file)
    config = validation.defaults("config") | given
    for key in ("results", "studies_dir", "data_dir"):
        if config[key] == "":
            raise InputError("is empty", file=file, key=key, allowed="a folder")
    _check_results(config["results"], file)
    if config["data_dir"] is not None and not os.path.isdir(config["data_dir"]):
        raise InputError(
            "no such folder",
            file=file,
            key="data_dir",
            value=config["data_dir"],
            allowed="a folder in torchvision's layout",
        )
    return config


def _parsed(text: str, key: str, file: str) -> Any:
    """The value of a key that the command line gives as text."""
    try:
        return validation.parse_yaml(text, file)
    except InputError as error:
        raise InputError(error.message, file=file, key=key, value=text, allowed="YAML") from error


def _check_results(folder: str, file: str) -> None:
    """Refuse what neither is a folder nor can become one; whether it can be written is known when a job is due."""
    try:
        reason = None if stat.S_ISDIR(os.stat(folder).st_mode) else "Not a directory"
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a file on the way, a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise InputError(
            f"not usable: {reason}",
            file=file,
            key="results",
            value=folder,
            allowed="a folder, or where to make one",
        )


def find(directory: Path | str, file: str = CONFIG) -> dict[str, Path]:
    """The studies of a folder by name; `file` is where the folder is named, for messages."""
    directory = Path(directory)
    if not os.path.isdir(directory):  # False, too, for a name that no file can have
        raise InputError(
            "no such folder",
            file=file,
            key="studies_dir",
            value=str(directory),
            allowed="a folder of YAML files",
        )
    files = {}
    for path in sorted(directory.glob("*.yaml")):
        name = path.stem
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}", name) or name.endswith(("-trial", "-plan")):
            raise InputError(
                "not usable as a study's name",
                file=path,
                value=name,
                allowed="up to 100 letters, digits, '.', '_' and '-', not ending in -trial or -plan",
            )
        if name in TAKEN:
            raise InputError(
                "not usable as a study's name, which is a target of the workflow or a folder of its results",
                file=path,
                value=name,
                allowed=f"any name but {', '.join(sorted(TAKEN))}",
            )
        files[name] = path
    return files


def load(path: Path | str, trial: Mapping[str, int] | None = None) -> Study:
    """Read, check and expand a study.

    Args:
        path: the study's YAML file; its stem is the study's name.
        trial: how to shrink it (the configuration's `trial`).

    Raises:
        InputError: the first thing that is wrong with it.
    """
    path = Path(path)
    content = validation.read_yaml(path)
    validation.check(content, "study", path)
    content = validation.defaults("study") | content
    if content["published"]:
        _check_published(content["published"], path)
    study = Study(path.stem, str(path), content, dict(trial) if trial else None)
    Expansion(study, path).fill()
    return study


def _check_published(name: str, path: Path) -> None:
    """Published numbers stand beside the studies' folder; what is in them is checked where they are compared."""
    known = sorted(file.stem for file in (path.parent.parent / "published").glob("*.csv"))
    if name not in known:
        allowed = known or "the name of a file in config/published"
        raise InputError(
            "no such file of published numbers", file=path, key="published", value=name, allowed=allowed
        )
