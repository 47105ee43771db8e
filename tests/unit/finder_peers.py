"""The LR finders of other packages, run end to end on prescribed losses.

Each function trains a tiny model whose loss at step k is ``losses[k]``, with the package's own loop, smoothing,
stop rule and suggestion, and returns the LRs that the package recorded and its suggestions by rule. The sweep
ends where the package ends it, so the LRs may be fewer than the losses.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import tempfile
import warnings

import numpy as np
import torch
from torch import nn

START, END = 1e-6, 10.0


def prescribed(losses: np.ndarray):
    """A loss function whose k-th call returns losses[k], connected to the model's output for the backward pass."""
    remaining = iter(torch.tensor(np.asarray(losses), dtype=torch.float32))
    return lambda output, target: next(remaining) + 0 * output.sum()


def loader(steps: int, cls=torch.utils.data.DataLoader):
    data = torch.utils.data.TensorDataset(torch.zeros(steps, 1), torch.zeros(steps, 1))
    return cls(data, batch_size=1)


def fastai(losses: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
    """fastai's `Learner.lr_find` with all four suggestions."""
    from fastai.basics import Adam, DataLoader, DataLoaders, Learner
    from fastai.callback.schedule import minimum, slide, steep, valley

    steps = len(losses)
    with tempfile.TemporaryDirectory() as folder:
        loaders = DataLoaders(loader(steps, DataLoader), loader(1, DataLoader))
        learn = Learner(loaders, nn.Linear(1, 1), loss_func=prescribed(losses), opt_func=Adam, path=folder)
        learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__ == "ProgressCallback"])
        rules = [_none_if_it_fails(rule) for rule in (valley, slide, steep, minimum)]
        found = learn.lr_find(START, END, steps, show_plot=False, suggest_funcs=rules)._asdict()
        return np.array(learn.recorder.lrs), {f"fastai_{name}": found[name] for name in found}


def _none_if_it_fails(rule):
    """The rule, with None for the errors that it raises on too few points."""

    @functools.wraps(rule)
    def guarded(lrs, losses, steps):
        try:
            return rule(lrs, losses, steps)
        except (IndexError, ValueError, RuntimeError):
            return None, None

    return guarded


def lightning(losses: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
    """Lightning's `Tuner.lr_find`."""
    import lightning as L
    from lightning.pytorch.tuner import Tuner

    criterion = prescribed(losses)

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.lr = nn.Linear(1, 1), START

        def training_step(self, batch, _):
            return criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)
    steps = len(losses)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, quiet:
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            max_epochs=1,
        )
        finder = Tuner(trainer).lr_find(
            Module(), loader(steps), min_lr=START, max_lr=END, num_training=steps, update_attr=False
        )
    return np.array(finder.results["lr"]), {"lightning": finder.suggestion()}


def torch_lr_finder(losses: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
    """pytorch-lr-finder's `range_test` and the suggestion of its `plot`."""
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder

    model = nn.Linear(1, 1)
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        finder = LRFinder(
            model, torch.optim.SGD(model.parameters(), lr=START), prescribed(losses), device="cpu"
        )
        finder.range_test(loader(len(losses)), end_lr=END, num_iter=len(losses))
        figure, axes = plt.subplots()
        try:
            suggestion = finder.plot(ax=axes, suggest_lr=True)[1]
        except RuntimeError:
            suggestion = None
        plt.close(figure)
    return np.array(finder.history["lr"]), {"torch_lr_finder": suggestion}


def ignite(losses: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
    """ignite's `FastaiLRFinder`."""
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder

    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=START)
    remaining = iter(float(loss) for loss in losses)
    trainer = Engine(lambda engine, batch: next(remaining))
    finder = FastaiLRFinder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = {"model": model, "optimizer": optimizer}
        with finder.attach(trainer, saved, num_iter=len(losses) - 1, start_lr=START, end_lr=END) as attached:
            attached.run([0] * len(losses), max_epochs=1)
    try:
        suggestion = finder.lr_suggestion()
    except RuntimeError:
        suggestion = None
    return np.array(finder.get_results()["lr"]), {"ignite": suggestion}


PEERS = {"fastai": fastai, "lightning": lightning, "torch_lr_finder": torch_lr_finder, "ignite": ignite}
