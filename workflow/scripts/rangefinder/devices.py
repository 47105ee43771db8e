"""Leases of GPUs: which devices a job may use, held by kernel locks, before torch is imported.

Snakemake counts GPUs but does not say which one a job gets, so that all jobs of a machine would land on device 0.
A lease takes one lock file per device and slot in a folder that all users of the machine share. The kernel frees
the lock when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

log = logging.getLogger(__name__)

FAKE = "RANGEFINDER_FAKE_GPUS"  # tests: pretend that so many GPUs are there; jobs then compute on the CPU
_GPU = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[0-9a-fA-F-]+)\)")
_MIG = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Device:
    """One GPU or MIG instance: `uuid` names it on this machine, `visible` is what CUDA_VISIBLE_DEVICES takes."""

    uuid: str
    visible: str


@dataclass(frozen=True)
class Lease:
    """What a job holds.

    Attributes:
        devices: empty on the CPU.
        waited_s: seconds until the devices were free.
    """

    devices: tuple[Device, ...]
    waited_s: float


def parse_listing(text: str) -> list[Device]:
    """The devices of `nvidia-smi -L`; a GPU split into MIG instances counts as those."""
    devices: list[Device] = []
    split = False
    for line in text.splitlines():
        if match := _GPU.match(line):
            devices.append(Device(match[2], match[2]))
            split = False
        elif match := _MIG.match(line):
            if not split and devices and not devices[-1].uuid.startswith("MIG-"):
                devices.pop()
            split = True
            devices.append(Device(match[1], match[1]))
    return devices


def _listing() -> list[Device]:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_listing(done.stdout) if done.returncode == 0 else []


def visible() -> list[Device]:
    """The devices this process may use, in a fixed order.

    ``CUDA_VISIBLE_DEVICES``, where it is set (by SLURM, or by the user), masks the machine's devices by index or
    UUID. Without nvidia-smi a masked device is named by the mask's own words, which is all there is to lock by.
    """
    if FAKE in os.environ:
        count = int(os.environ[FAKE])
        return [Device(f"FAKE-{index}", f"FAKE-{index}") for index in range(count)]
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    if mask is not None and not mask.strip():
        return []
    present = _listing()
    if mask is None:
        return present
    chosen = []
    for word in (part.strip() for part in mask.split(",")):
        if word.isdigit():
            whole = [device for device in present if not device.uuid.startswith("MIG-")] or present
            if present and int(word) >= len(whole):
                break  # CUDA ignores an index that does not exist, and all that follow it
            chosen.append(Device(whole[int(word)].uuid if present else f"index-{word}", word))
        elif word == "-1" or not word:
            break
        else:
            full = next((device.uuid for device in present if device.uuid.startswith(word)), word)
            chosen.append(Device(full, full))
    return chosen


def outlook(limit: int | None, slots: int = 1) -> str:
    """What a user is told once, before any job: where jobs will compute, and what would use the machine better.

    Args:
        limit: of `--resources gpu=…`; None where nothing bounds it.
        slots: jobs that may share one device.
    """
    count = len(visible())
    if not count:
        return "no GPU is visible here: computing on the CPU"
    shares = count * slots
    pool = f"{count} GPU{'s'[: count > 1]}" + (f" ({shares} shares)" if slots > 1 else "")
    if limit == 0:
        return f"gpu=0: computing on the CPU, with {pool} visible here"
    if limit is None or limit > shares:
        asked = "no limit on gpu" if limit is None else f"gpu={limit}"
        return f"{asked}, with {pool} visible here: further jobs wait until one is free"
    if limit < shares:
        return f"gpu={limit}, with {pool} visible here: --resources gpu={shares} would use all"
    return f"gpu={limit}, with {pool} visible here: all are used"


def given() -> bool:
    """In a cluster's job: whether it was given a device.

    SLURM names what it gave in ``CUDA_VISIBLE_DEVICES``. Where it gave nothing, nvidia-smi may still list the node's
    GPUs, which are other jobs' then.
    """
    if "SLURM_JOB_ID" in os.environ and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return False
    return bool(visible())


def lease_folder() -> Path:
    """The folder of lock files, node-local and shared by all users (like /tmp: anyone may add, none take away)."""
    folder = Path(os.environ.get("RANGEFINDER_LEASES") or Path(tempfile.gettempdir()) / "rangefinder-leases")
    try:
        folder.mkdir(mode=0o1777, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o1777)  # mkdir's mode went through the umask
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", file=folder, key="RANGEFINDER_LEASES"
        ) from error
    return folder


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process does."""
    try:
        # O_NOFOLLOW: a link that somebody planted in the shared folder must not make us open another file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"lock file cannot be opened: {error.strerror}", file=path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError("lock file is not a plain file", file=path)
    if status.st_uid == os.geteuid():
        os.fchmod(descriptor, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _try_set(pool: Sequence[Device], count: int, slots: int, folder: Path) -> list[tuple[Device, int]]:
    """Locks on `count` different devices, or none at all."""
    held: list[tuple[Device, int]] = []
    try:
        for slot in range(slots):  # fill every device's first slot before any second one
            for device in pool:
                if len(held) == count:
                    return held
                if any(device == other for other, _ in held):
                    continue
                name = re.sub(r"[^A-Za-z0-9-]", "_", device.uuid)
                descriptor = _try_lock(folder / f"{name}.slot{slot}.lock")
                if descriptor is not None:
                    held.append((device, descriptor))
        if len(held) == count:
            return held
    except BaseException:
        _release(held)
        raise
    _release(held)
    return []


def _release(held: Sequence[tuple[Device, int]]) -> None:
    for _, descriptor in held:
        os.close(descriptor)  # the lock goes with its last descriptor


@contextmanager
def lease(
    count: int,
    *,
    slots: int = 1,
    timeout_s: float = 24 * 3600,
    folder: Path | None = None,
    pool: Sequence[Device] | None = None,
) -> Iterator[Lease]:
    """Hold `count` devices for the length of the block and show this process no others.

    Args:
        count: devices wanted; 0 computes on the CPU. On a machine without any the CPU is used too, and said so.
        slots: jobs that may share one device (`jobs_per_gpu`).
        timeout_s: seconds to wait before giving up.
        folder: lock files; `lease_folder()` by default.
        pool: devices to choose from; `visible()` by default.

    Raises:
        InputError: more devices are wanted than there are, or none was free in time.
    """
    if count == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        yield Lease((), 0.0)
        return
    pool = sorted(visible() if pool is None else pool, key=lambda device: device.uuid)
    if not pool:
        log.warning("no GPU is visible here: computing on the CPU")
        yield Lease((), 0.0)
        return
    if count > len(pool):
        raise InputError(
            "more GPUs are asked for than are visible", key="gpu", value=count, allowed=f"0 to {len(pool)}"
        )
    folder = folder or lease_folder()
    start = time.monotonic()
    said = None
    while not (held := _try_set(pool, count, slots, folder)):
        waited = time.monotonic() - start
        if waited >= timeout_s:
            raise InputError(
                f"no {count} of {len(pool)} GPUs became free in {waited:.0f} s", key="device_wait_minutes"
            )
        if said is None or waited - said >= 60:
            log.info("waiting for %d of %d GPUs (%.0f s so far)", count, len(pool), waited)
            said = waited
        time.sleep(0.2)
    devices = tuple(device for device, _ in held)
    try:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(device.visible for device in devices)
        log.info("leased %s", ", ".join(device.uuid for device in devices))
        yield Lease(devices, time.monotonic() - start)
    finally:
        # Before the locks go, so that the log's times of two leases of one device never overlap.
        log.info("released %s", ", ".join(device.uuid for device in devices))
        _release(held)
