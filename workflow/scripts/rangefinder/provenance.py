"""What computed a result: a digest of the engine's own source, and the versions around it."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    import torch

    from .clocks import Clocks

# Modules that come after the records, or beside them: they can change how a result is shown, never what it is.
SHOWING = {
    "batch_figures",
    "captions",
    "cells",
    "claim_metrics",
    "claims",
    "collection",
    "comparison",
    "crowding",
    "curve_figures",
    "drawing",
    "durations",
    "findings",
    "findings_page",
    "formats",
    "index",
    "panels",
    "plan",
    "progress",
    "published",
    "published_curves",
    "range_figures",
    "reference",
    "replay",
    "replay_figures",
    "report",
    "shown",
    "shown_comparison",
    "shown_findings",
    "shown_plan",
    "shown_ranges",
    "shown_tables",
    "statistics",
    "status",
    "summary",
    "tables",
    "timing",
    "verdicts",
}


@cache
def engine_digest() -> str:
    """sha256 over the source of all modules that can change a record (names and contents), in sorted order.

    Snakemake's mtime trigger is blind to modules that a script imports; with this digest in each record a
    report can say that its runs come from different versions of the engine.
    """
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.parent == root and path.stem in SHOWING:
            continue
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        # Snakemake leaves a file's last newline out when it fetches it from a git host.
        digest.update(path.read_bytes().rstrip(b"\n") + b"\0")
    return digest.hexdigest()


def provenance(data_digest: str) -> dict[str, str]:
    """The ``provenance`` entry of a record."""
    return {"engine_digest": engine_digest(), "data_digest": data_digest, "version": __version__}


def environment() -> dict[str, str | int]:
    """Versions and threads, without anything that names the machine or its user."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu_count": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }


def machine(
    device: torch.device,
    clocks: Clocks,
    *,
    epochs: Sequence[Any] = (),
    resumed: int = 0,
) -> dict[str, Any]:
    """The content of machine.json: all of a job that may differ between two machines.

    Args:
        epochs: seconds of every epoch.
        resumed: how often the job was continued from a checkpoint.
    """
    import torch

    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "environment": environment(),
        "clocks": clocks.record(),
        "epochs": list(epochs),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "resumed": resumed,
        "processes": 1,
    }
