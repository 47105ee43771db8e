"""Checkpoints: whole or not at all, never another run's."""

import os
import re

import numpy as np
import pytest
import torch
from rangefinder import provenance, records
from rangefinder.checkpoints import Checkpoints

DIGEST = "0123456789abcdef" * 4


def state(value: float) -> dict:
    return {"model": {"w": torch.full((3,), value)}, "step": int(value), "rows": [{"a": value}]}


def test_a_state_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)
    assert checkpoints.load() is None
    checkpoints.save(state(0.1))
    loaded = checkpoints.load()
    assert torch.equal(loaded["model"]["w"], torch.full((3,), 0.1))
    assert loaded["rows"] == [{"a": 0.1}]


def test_a_damaged_checkpoint_gives_way_to_the_previous_one(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)
    checkpoints.save(state(1))
    checkpoints.save(state(2))
    path = checkpoints.folder / "latest.ckpt"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert checkpoints.load()["step"] == 1
    assert "latest.ckpt is damaged" in caplog.text
    (checkpoints.folder / "previous.ckpt").write_bytes(b"")
    assert checkpoints.load() is None


class Harmful:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickled_object_is_named_and_never_executed(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "checkpoints", "run", DIGEST)
    checkpoints.save(state(1))
    checkpoints.save(state(2) | {"harm": Harmful(tmp_path / "made")})
    assert checkpoints.load()["step"] == 1
    assert "latest.ckpt holds something other than tensors and plain values (posix.mkdir)" in caplog.text
    checkpoints.save(state(3) | {"scalar": np.float64(1)})
    assert checkpoints.load() is None
    assert re.search(r"latest\.ckpt holds .* \(numpy\.[\w.]*scalar\)", caplog.text)
    assert "previous.ckpt holds something other than tensors and plain values (posix.mkdir)" in caplog.text
    assert not (tmp_path / "made").exists()


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)
    checkpoints.save(state(1))
    os.replace(checkpoints.folder / "latest.ckpt", checkpoints.folder / "previous.ckpt")
    assert checkpoints.load()["step"] == 1


def test_changed_parameters_never_pick_up_an_old_state(tmp_path):
    Checkpoints(tmp_path, "run", DIGEST).save(state(1))
    other = Checkpoints(tmp_path, "run", "f" * 64)
    assert other.load() is None
    other.save(state(2))
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_removing_a_run_spares_a_run_whose_name_begins_alike(tmp_path):
    Checkpoints(tmp_path, "run-seed1", DIGEST).save(state(1))
    Checkpoints(tmp_path, "run-seed10", DIGEST).save(state(2))
    Checkpoints(tmp_path, "run-seed1", DIGEST).remove()
    assert list(tmp_path.iterdir()) == [Checkpoints(tmp_path, "run-seed10", DIGEST).folder]


def test_a_full_disk_keeps_the_previous_state_and_the_run_going(tmp_path, monkeypatch, caplog):
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)
    checkpoints.save(state(1))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    checkpoints.save(state(2))
    assert "No space left on device" in caplog.text
    assert checkpoints.load()["step"] == 1
    assert [path.name for path in checkpoints.folder.iterdir()] == ["latest.ckpt"]


@pytest.mark.parametrize("call", ["mkdir", "replace"])
def test_a_disk_that_refuses_a_checkpoint_keeps_the_run_going(tmp_path, monkeypatch, caplog, call):
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)

    def refused(*_arguments, **_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, call, refused)
    checkpoints.save(state(1))
    assert "checkpoint of run not written (Read-only file system)" in caplog.text
    monkeypatch.undo()
    assert checkpoints.load() is None
    assert list(tmp_path.rglob("*.tmp")) == []


def test_another_version_of_the_engine_starts_over(tmp_path, monkeypatch, caplog):
    Checkpoints(tmp_path, "run", DIGEST).save(state(1))
    monkeypatch.setattr(provenance, "engine_digest", lambda: "another")
    other = Checkpoints(tmp_path, "run", DIGEST)
    assert other.load() is None
    assert "of other parameters, data or another version of the engine: starting over" in caplog.text
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_and_records_are_on_disk_before_and_after_they_get_their_names(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def noting_fsync(descriptor):
        done.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def noting_replace(source, target):
        done.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    checkpoints = Checkpoints(tmp_path, "run", DIGEST)
    checkpoints.save(state(1))
    assert done == [
        ("fsync", ".latest.ckpt.tmp"),
        ("rename", "latest.ckpt"),
        ("fsync", checkpoints.folder.name),
    ]
    done.clear()
    records.write_text(tmp_path / "run.json", "{}")
    assert done == [("fsync", ".run.json.tmp"), ("rename", "run.json"), ("fsync", tmp_path.name)]
