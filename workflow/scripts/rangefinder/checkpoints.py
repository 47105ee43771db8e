"""Checkpoints of a run: atomic, checked, outside the outputs that Snakemake deletes.

A checkpoint file is one line, the sha256 of the rest in hex, followed by the bytes of ``torch.save``. The
newest whole one is `latest.ckpt`; the one before it stays as `previous.ckpt` until the newest is on disk.
The folder's name carries a digest of the run's resolved parameters, its data and the engine, so that a changed
parameter never picks up an old state, and a record's `engine_digest` speaks for all of its steps.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from . import provenance, records

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the study's checkpoint folder.
        run: id of the run.
        digest: digest of the run's resolved parameters and its data.
    """

    def __init__(self, folder: Path | str, run: str, digest: str) -> None:
        self.root = Path(folder)
        self.run = run
        key = hashlib.sha256(f"{digest} {provenance.engine_digest()}".encode()).hexdigest()
        self.folder = self.root / f"{run}-{key[:16]}"

    def save(self, state: dict) -> None:
        """Write a state of tensors and plain values; the previous one stays until this one is whole."""
        import torch

        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        temporary, latest = self.folder / ".latest.ckpt.tmp", self.folder / "latest.ckpt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(hashlib.sha256(data).hexdigest().encode() + b"\n")
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if latest.exists():
                os.replace(latest, self.folder / "previous.ckpt")
            os.replace(temporary, latest)
            records.settle(self.folder)
        except OSError as error:
            # A full disk must not end a run that could still finish: say it, keep the older one, go on.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            log.warning(
                "checkpoint of %s not written (%s); the previous one is kept", self.run, error.strerror
            )

    def load(self) -> dict | None:
        """The newest whole state, or None. A file damaged, or loaded by code alone, is named and passed over."""
        import torch

        for name in ("latest.ckpt", "previous.ckpt"):
            path = self.folder / name
            if not path.exists():
                continue
            digest, _, data = path.read_bytes().partition(b"\n")
            if hashlib.sha256(data).hexdigest().encode() != digest:
                log.warning("%s is damaged (its checksum does not match) and is not used", path)
                continue
            try:
                return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            except pickle.UnpicklingError as error:  # of an optimizer or a model of the user's own
                held = re.search(r"GLOBAL ([\w.]+)", str(error))
                log.warning(
                    "%s holds something other than tensors and plain values (%s), which is not loaded, and is not used",
                    path,
                    held[1] if held else str(error).split("\n")[0],
                )
        if any(folder != self.folder for folder in self._folders()):
            log.warning(
                "checkpoints of %s are of other parameters, data or another version of the engine: starting over",
                self.run,
            )
        return None

    def remove(self) -> None:
        """Delete this run's checkpoints, those of its former parameters too."""
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> Iterator[Path]:
        return self.root.glob(f"{self.run}-" + "[0-9a-f]" * 16)
