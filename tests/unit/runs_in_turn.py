"""Trains runs each in a process of its own, and then all in one: python runs_in_turn.py SPECS.json DATA FOLDER

Every process of its own is forked before any training, with torch imported and nothing else done. Beside each record
is left the digest of the final weights.
"""

import hashlib
import json
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import torch
from rangefinder import finished, in_turn, trainer, training
from rangefinder.clocks import Clocks
from rangefinder.progress import Progress


class Watched(trainer.Trainer):
    """A trainer that tells its final weights and what it draws random numbers from."""

    def record(self):
        digest = hashlib.sha256()
        for name, tensor in self.parts.model.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        digest.update(torch.get_rng_state().numpy().tobytes())
        WEIGHTS.append(digest.hexdigest())
        return super().record()


WEIGHTS: list[str] = []
training.Trainer = Watched


def train(specs, data_folder, folder):
    for spec in specs:
        finished.log_file(folder, spec["run"]).parent.mkdir(parents=True, exist_ok=True)
    try:
        in_turn.train(
            specs,
            study_folder=folder,
            lr_range=None,
            data_folder=data_folder,
            leased=0,
            clocks=Clocks(),
            report=Progress(),
            log_into=lambda path: nullcontext(),
            reported=lambda path, spec: nullcontext(Progress()),
            kept=len(specs) > 1,
        )
    finally:
        (folder / f"weights-{specs[0]['run']}").write_text(" ".join(WEIGHTS))


def main():
    specs, data_folder, folder = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    for name in ("alone", "together"):
        (folder / name).mkdir(parents=True)
    for spec in specs:
        child = os.fork()
        if not child:
            try:
                train([spec], data_folder, folder / "alone")
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{spec['run']} failed alone")
    train(specs, data_folder, folder / "together")
    if "torch._dynamo" in sys.modules:
        sys.exit("torch's compiler was imported, which takes as long as torch")


if __name__ == "__main__":
    main()
