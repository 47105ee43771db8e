"""Functions of the user's own, named in a study as ``path/file.py:function``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import InputError


def is_reference(name: object) -> bool:
    """Whether a name is written ``path/file.py:function``."""
    return isinstance(name, str) and ".py:" in name


def load_function(reference: str, *, key: str) -> Callable:
    """The function that ``path/file.py:function`` names; the path is relative to the working directory.

    Args:
        reference: the name as written.
        key: where it is written, for messages.

    Raises:
        InputError: no such file, the file fails to run, or it has no such function.
    """
    file, _, function = reference.rpartition(":")
    path = Path(file)
    if not os.path.isfile(path):
        raise InputError("no such file", key=key, value=reference, allowed="path/file.py:function")
    # Named by its place, so that two files of one name do not meet in sys.modules (pickling looks there).
    module_name = "rangefinder_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise InputError(f"fails to run ({type(error).__name__}: {error})", file=path, key=key) from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError("no such function", file=path, key=key, value=function, allowed=names)
    return found
