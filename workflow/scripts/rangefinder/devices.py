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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

log = logging.getLogger(__name__)

FAKE = "RANGEFINDER_FAKE_GPUS"  # tests: pretend that so many GPUs are there; jobs then compute on the CPU
_GPU = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[0-9a-fA-F-]+)\)")
_MIG = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Device:
    """One GPU or MIG instance.

    Attributes:
        uuid: names it on this machine.
        visible: what CUDA_VISIBLE_DEVICES takes for it.
        gpu: the GPU's index as nvidia-smi counts; None where that is not known.
    """

    uuid: str
    visible: str
    gpu: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is a GPU, not a part of one."""
        return not self.uuid.startswith("MIG-")


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
    for line in text.splitlines():
        if match := _GPU.match(line):
            devices.append(Device(match[2], match[2], int(match[1])))
        elif (match := _MIG.match(line)) and devices:
            gpu = devices[-1].gpu
            if devices[-1].is_whole:
                devices.pop()
            devices.append(Device(match[1], match[1], gpu))
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
    UUID. An index is one of nvidia-smi's; a GPU that is split stands for its first MIG instance, as in CUDA. Either
    way a job is shown the UUID that it locks: CUDA itself may count GPUs of several models in another order. Without
    nvidia-smi a masked device is named by the mask's own words, which is all there is to lock by.
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
            named = (device for device in present if device.gpu == int(word))
            device = next(named, None) if present else Device(f"index-{word}", word)
            if device is None:
                break  # CUDA ignores an index that does not exist, and all that follow it
            chosen.append(device)
        elif word == "-1" or not word:
            break
        else:
            named = (device for device in present if device.uuid.startswith(word))
            chosen.append(next(named, Device(word, word)))
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
    """The folder of lock files, node-local and shared by all users (like /tmp: anyone may add, none take away).

    Not in ``TMPDIR``, which many systems set to a folder of each user's or job's own: there they would never meet.
    """
    folder = Path(os.environ.get("RANGEFINDER_LEASES") or "/tmp/rangefinder-leases")
    try:
        with _for_all_users():
            folder.mkdir(mode=0o1777, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o1777)  # where mkdir gives no sticky bit
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", file=folder, key="RANGEFINDER_LEASES"
        ) from error
    return folder


@contextmanager
def _for_all_users() -> Iterator[None]:
    """What is made in the block can be written by every user from its first moment, whatever this one's umask."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _open_lock(path: Path) -> int:
    # O_NOFOLLOW: a link that somebody planted in the shared folder must not make us open another file.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Never O_CREAT on a file that is there: Linux then refuses other users' files in a folder like this one
        # (fs.protected_regular, on by default in most distributions), though their mode allows it.
        return os.open(path, flags)
    except FileNotFoundError:
        with suppress(FileExistsError), _for_all_users():
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        return os.open(path, flags)  # another process was faster


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process does."""
    try:
        descriptor = _open_lock(path)
    except OSError as error:
        raise InputError(f"lock file cannot be opened: {error.strerror}", file=path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("lock file is not a plain file", file=path)
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
    if count > 1 and not all(device.is_whole for device in pool):
        # A process sees one MIG instance at most, and instances cannot reach each other.
        pool = [device for device in pool if device.is_whole]
        if count > len(pool):
            raise InputError(
                "a run on several GPUs needs whole ones, not MIG instances",
                key="gpus_per_run",
                value=count,
                allowed="1" if len(pool) < 2 else f"1 to {len(pool)}",
            )
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
