"""Device leases: never two jobs on one device, whole sets or nothing, freed by a kill."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from rangefinder import devices
from rangefinder.devices import Device
from rangefinder.errors import InputError

CONTEXT = multiprocessing.get_context("fork")

LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-5a1b6f4e-0000-1111-2222-333344445555)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-6b2c7a5f-0000-1111-2222-333344445555)
  MIG 3g.40gb     Device  0: (UUID: MIG-aaaa1111-0000-1111-2222-333344445555)
  MIG 3g.40gb     Device  1: (UUID: MIG-bbbb2222-0000-1111-2222-333344445555)
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine without GPUs and without other tests' leases."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(devices.FAKE, raising=False)
    monkeypatch.setenv("RANGEFINDER_LEASES", str(tmp_path / "leases"))
    monkeypatch.setattr(devices, "_listing", lambda: [])
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def pool(count):
    return [Device(f"GPU-{index}", str(index), index) for index in range(count)]


def job(log: Path, number: int, count: int, slots: int, size: int, hold: float, together=None) -> None:
    if together is not None:
        together.wait()
    with devices.lease(count, slots=slots, pool=pool(size), timeout_s=60) as lease:
        for device in lease.devices:
            with open(log, "a") as file:
                file.write(f"{time.monotonic()} + {device.uuid} {number}\n")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(device.visible for device in lease.devices)
        time.sleep(hold)
        for device in lease.devices:
            with open(log, "a") as file:
                file.write(f"{time.monotonic()} - {device.uuid} {number}\n")


def held_at_once(log: Path) -> tuple[dict[str, int], int]:
    """Most jobs at once on each device, and most devices in use at once."""
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    busiest = 0
    for line in sorted(log.read_text().splitlines(), key=lambda line: float(line.split()[0])):
        _, sign, device, _ = line.split()
        now[device] = now.get(device, 0) + (1 if sign == "+" else -1)
        most[device] = max(most.get(device, 0), now[device])
        busiest = max(busiest, sum(now.values()))
    return most, busiest


@pytest.mark.parametrize(("count", "slots", "size"), [(1, 1, 4), (1, 2, 4), (2, 1, 4), (4, 1, 4)])
def test_24_jobs_never_share_more_than_their_slots(tmp_path, count, slots, size):
    log = tmp_path / "log"
    together = CONTEXT.Barrier(24)  # all ask at once, however slowly they start
    jobs = [CONTEXT.Process(target=job, args=(log, n, count, slots, size, 0.2, together)) for n in range(24)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(60)
    assert [process.exitcode for process in jobs] == [0] * 24
    most, busiest = held_at_once(log)
    assert len(most) == size  # every device was used
    assert max(most.values()) <= slots
    assert busiest <= size * slots


def test_a_killed_job_frees_its_device(tmp_path):
    log = tmp_path / "log"
    victim = CONTEXT.Process(target=job, args=(log, 0, 1, 1, 1, 60))
    victim.start()
    while not log.exists():
        assert victim.is_alive()
        time.sleep(0.01)
    with (
        pytest.raises(InputError, match=r"no 1 of 1 GPUs became free"),
        devices.lease(1, pool=pool(1), timeout_s=0.3),
    ):
        pass
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    with devices.lease(1, pool=pool(1), timeout_s=5) as lease:
        assert lease.devices == tuple(pool(1))


def test_a_set_that_cannot_be_whole_holds_nothing(tmp_path):
    with devices.lease(1, pool=pool(2)) as one:
        with pytest.raises(InputError, match="became free"), devices.lease(2, pool=pool(2), timeout_s=0.3):
            pass
        other = next(device for device in pool(2) if device not in one.devices)
        with devices.lease(1, pool=[other], timeout_s=0) as lease:
            assert lease.devices == (other,)


def test_more_than_there_are_fails_at_once():
    start = time.monotonic()
    with (
        pytest.raises(
            InputError, match=r"gpu: more GPUs are asked for than are visible \(got 8\); allowed: 0 to 4"
        ),
        devices.lease(8, pool=pool(4), timeout_s=60),
    ):
        pass
    assert time.monotonic() - start < 5


def test_no_gpu_means_the_cpu_and_says_so(caplog):
    with devices.lease(1) as lease:
        assert lease.devices == ()
    assert "no GPU is visible here: computing on the CPU" in caplog.text


def test_none_asked_for_shows_none(monkeypatch):
    monkeypatch.setattr(devices, "_listing", lambda: pool(2))
    with devices.lease(0) as lease:
        assert lease.devices == () and os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("count", "limit", "slots", "words"),
    [
        (0, 4, 1, "no GPU is visible here: computing on the CPU"),
        (0, 0, 1, "no GPU is visible here: computing on the CPU"),
        (1, 0, 1, "gpu=0: computing on the CPU, with 1 GPU visible here"),
        (2, 4, 1, "gpu=4, with 2 GPUs visible here: further jobs wait until one is free"),
        (2, 4, 2, "gpu=4, with 2 GPUs (4 shares) visible here: all are used"),
        (4, 1, 1, "gpu=1, with 4 GPUs visible here: --resources gpu=4 would use all"),
        (4, None, 1, "no limit on gpu, with 4 GPUs visible here: further jobs wait until one is free"),
    ],
)
def test_what_a_user_is_told_before_any_job(monkeypatch, count, limit, slots, words):
    monkeypatch.setenv(devices.FAKE, str(count))
    assert devices.outlook(limit, slots) == words


@pytest.mark.parametrize(("count", "limit"), [(2, 4), (1, 4), (0, 4), (2, 0), (4, 1), (4, 4)])
def test_the_page_for_users_has_these_words(monkeypatch, count, limit):
    monkeypatch.setenv(devices.FAKE, str(count))
    page = Path(__file__).resolve().parents[2] / "docs/cluster.md"
    assert f"    {devices.outlook(limit)}\n" in page.read_text()


def test_the_page_for_users_has_the_words_of_a_wait_and_its_end(caplog):
    page = (Path(__file__).resolve().parents[2] / "docs/cluster.md").read_text()
    for size in (1, 2):
        caplog.clear()
        with (
            caplog.at_level("INFO"),
            devices.lease(size, pool=pool(size)),
            pytest.raises(InputError) as error,
            devices.lease(1, pool=pool(size), timeout_s=0.3),
        ):
            pass
        (waits,) = (text for text in caplog.messages if "waiting" in text)
        assert f"    INFO {waits}\n" in page
        assert f"    error: {error.value}\n".replace(" 0 s", " 86400 s") in page


def test_mig_instances_stand_for_their_gpu():
    assert [device.uuid[:8] for device in devices.parse_listing(LISTING)] == [
        "GPU-5a1b",
        "MIG-aaaa",
        "MIG-bbbb",
    ]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, ["GPU-5a1b", "MIG-aaaa", "MIG-bbbb"]),
        ("", []),
        ("0", ["GPU-5a1b"]),
        ("1,0", ["MIG-aaaa", "GPU-5a1b"]),  # of a GPU that is split CUDA takes the first instance
        ("MIG-bbbb2222-0000-1111-2222-333344445555", ["MIG-bbbb"]),
        ("GPU-5a1b", ["GPU-5a1b"]),  # a shortened UUID is CUDA's own habit
        ("0,7", ["GPU-5a1b"]),
        ("-1", []),
    ],
)
def test_masks(monkeypatch, mask, expected):
    monkeypatch.setattr(devices, "_listing", lambda: devices.parse_listing(LISTING))
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert [device.uuid[:8] for device in devices.visible()] == expected


@pytest.mark.parametrize(
    ("job", "mask", "expected"),
    [("17", None, False), ("17", "", False), ("17", "0", True), (None, None, True)],
)
def test_a_slurm_job_was_given_what_slurm_names_and_not_what_the_node_has(monkeypatch, job, mask, expected):
    monkeypatch.setattr(devices, "_listing", lambda: [Device("GPU-a", "GPU-a", 0)])
    for name, value in (("SLURM_JOB_ID", job), ("CUDA_VISIBLE_DEVICES", mask)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert devices.given() is expected


def test_two_masks_that_name_one_device_meet_in_one_lock(monkeypatch):
    monkeypatch.setattr(devices, "_listing", lambda: devices.parse_listing(LISTING))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    by_index = devices.visible()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a1b6f4e-0000-1111-2222-333344445555")
    assert by_index == devices.visible()


def test_a_job_is_shown_the_device_that_it_locks_by_uuid(monkeypatch):
    """CUDA counts the fastest GPU first and nvidia-smi by the bus: an index is not the same GPU to both."""
    monkeypatch.setattr(devices, "_listing", lambda: devices.parse_listing(LISTING))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with devices.lease(1) as lease:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == lease.devices[0].uuid
        assert lease.devices[0].uuid == "GPU-5a1b6f4e-0000-1111-2222-333344445555"


def test_without_a_listing_the_masks_own_words_are_leased(monkeypatch):
    """AMD's GPUs: nvidia-smi knows none, and HIP takes indices from CUDA_VISIBLE_DEVICES."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with devices.lease(1) as lease:
        assert lease.devices == (Device("index-2", "2"),)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_a_run_on_several_gpus_has_no_mig_instances(tmp_path):
    mixed = devices.parse_listing(LISTING)
    with (
        pytest.raises(
            InputError,
            match=r"^gpus_per_run: a run on several GPUs needs whole ones, not MIG instances \(got 2\); allowed: 1$",
        ),
        devices.lease(2, pool=mixed, timeout_s=0),
    ):
        pass
    whole = [Device("GPU-x", "GPU-x", 2), *mixed]
    with devices.lease(2, pool=whole, timeout_s=0) as lease:
        assert [device.uuid[:8] for device in lease.devices] == ["GPU-5a1b", "GPU-x"]


def test_users_whose_temporary_folders_differ_meet_in_one(tmp_path):
    code = "from rangefinder import devices; print(devices.lease_folder())"
    environment = {key: value for key, value in os.environ.items() if key != "RANGEFINDER_LEASES"}
    environment["PYTHONPATH"] = str(Path(devices.__file__).parents[1])
    found = set()
    for user in ("one", "other"):
        (tmp_path / user).mkdir()
        variables = environment | {"TMPDIR": str(tmp_path / user)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def another_user(user: int, folder: Path, count: int, holds, goes_on) -> None:
    """Another user's process leases devices, until it is told to go on."""
    os.umask(0o077)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    with devices.lease(count, pool=pool(2), folder=folder, timeout_s=60):
        holds.set()
        assert goes_on.wait(60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_two_users_share_a_machine_without_meeting_on_a_device():
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        os.environ["RANGEFINDER_LEASES"] = f"{outer}/leases"
        folder = devices.lease_folder()
        events = [CONTEXT.Event() for _ in range(4)]
        # The first makes one device's lock file, the second the other's; then each needs what the other made.
        first = CONTEXT.Process(target=another_user, daemon=True, args=(12001, folder, 1, *events[:2]))
        second = CONTEXT.Process(target=another_user, daemon=True, args=(12002, folder, 1, *events[2:]))
        for process, holds in ((first, events[0]), (second, events[2])):
            process.start()
            assert holds.wait(60)
        assert len({path.stat().st_uid for path in folder.iterdir()}) == 2
        with pytest.raises(InputError, match="no 1 of 2 GPUs"), devices.lease(1, pool=pool(2), timeout_s=0):
            pass
        for process, goes_on in ((first, events[1]), (second, events[3])):
            goes_on.set()
            process.join(60)
            assert process.exitcode == 0
        for user in (12001, 12002):
            holds, goes_on = CONTEXT.Event(), CONTEXT.Event()
            goes_on.set()
            process = CONTEXT.Process(
                target=another_user, daemon=True, args=(user, folder, 2, holds, goes_on)
            )
            process.start()
            process.join(60)
            assert process.exitcode == 0 and holds.is_set()


def test_another_users_lock_file_is_opened_as_linux_wants_it(monkeypatch):
    """fs.protected_regular: in a folder like this one, O_CREAT on another user's file is refused."""
    really = os.open

    def guarded(path, flags, *arguments):
        if flags & os.O_CREAT and os.path.lexists(path):
            raise PermissionError(13, "Permission denied", path)
        return really(path, flags, *arguments)

    with devices.lease(2, pool=pool(2)):  # makes the files
        pass
    monkeypatch.setattr(os, "open", guarded)
    with devices.lease(2, pool=pool(2)) as lease:
        assert lease.devices == tuple(pool(2))


def test_of_two_that_make_a_lock_file_at_once_both_get_it(monkeypatch, tmp_path):
    really = os.open
    path = tmp_path / "GPU-0.slot0.lock"

    def slow(name, flags, *arguments):
        if flags & os.O_CREAT:
            os.close(really(path, flags, *arguments))  # by the other, between our look and our making it
        return really(name, flags, *arguments)

    monkeypatch.setattr(os, "open", slow)
    with devices.lease(1, pool=pool(1), folder=tmp_path) as lease:
        assert lease.devices == tuple(pool(1))


def test_the_folder_is_open_to_other_users_and_links_are_refused(tmp_path):
    before = os.umask(0o077)
    try:
        folder = devices.lease_folder()
        with devices.lease(1, pool=pool(1), folder=folder):
            pass
    finally:
        assert os.umask(before) == 0o077
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    with devices.lease(1, pool=pool(1), folder=folder):
        (lock,) = folder.iterdir()
        assert stat.S_IMODE(lock.stat().st_mode) == 0o666
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(InputError, match="lock file cannot be opened"),
        devices.lease(1, pool=pool(1), folder=folder),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_leased_gpu_that_torch_cannot_use_is_named(monkeypatch, caplog):
    from rangefinder import experiment

    monkeypatch.setattr(experiment.torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(devices.FAKE, raising=False)
    assert experiment.pick_device(1).type == "cpu" and "torch cannot use it" in caplog.text
    caplog.clear()
    assert experiment.pick_device(0).type == "cpu" and not caplog.text
    monkeypatch.setenv(devices.FAKE, "1")
    assert experiment.pick_device(1).type == "cpu" and not caplog.text
