"""The workflow on a real Slurm cluster, through the profile that the project ships."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import slurm
from workplace import SMALL, Workplace

# Quick polling: the plugin's first look at its jobs comes after this time, then every 10 s more.
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")
BRIEF = SMALL[: SMALL.index("sweeps:")] + "sweeps: {only: {grid: {optimizer: [sgd], schedule: [none]}}}\n"
# Long enough to be met while it trains, and no range tests before it.
LONG = (
    BRIEF.replace("epochs: 2, lr: suggested", "epochs: 200, lr: 0.1")
    .replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3]")
    .replace("range_tests:\n  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20}\n", "")
)
STEPS = 200 * 6
TABLES = "results/small/tables/runs.csv"  # the end of the chain, but for figures and report
RUNS = [f"sgd-none-bs50-seed{seed}" for seed in range(4)]
PATIENCE_S = 600  # the machine may be busy; nothing here depends on how long it takes


@pytest.fixture(scope="module")
def cluster():
    reason = slurm.unavailable()
    if reason:
        pytest.skip(reason)
    cluster = slurm.Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def local(cluster, tmp_path_factory) -> Workplace:
    """The long study, run on this machine alone."""
    place = Workplace.make(tmp_path_factory.mktemp("local"), LONG)
    place.snakemake(TABLES)
    return place


@pytest.fixture
def on_cluster(cluster):
    """Start Snakemake with the SLURM profile; what is left of it ends with the test."""
    started = []

    def start(place: Workplace, *arguments: str) -> subprocess.Popen:
        command = place.command(*QUICK, *arguments, profile="slurm")
        with open(place.folder / f"snakemake-{len(started)}.out", "w") as output:
            process = subprocess.Popen(
                command, cwd=place.folder, env=cluster.environment, stdout=output, stderr=subprocess.STDOUT
            )
        process.output = Path(output.name)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    cluster.cancel_all()


def ended(process: subprocess.Popen, code: int = 0) -> str:
    """What Snakemake said, after its end with this exit status."""
    status = process.wait(PATIENCE_S)
    output = process.output.read_text()
    assert status == code, output[-6000:]
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        assert process is None or process.poll() is None, process.output.read_text()[-6000:]
        time.sleep(0.2)


def log_of(place: Workplace, run: str) -> str:
    path = place.folder / f"results/small/logs/train/{run}.log"
    return path.read_text() if path.exists() else ""


def is_training(place: Workplace, run: str) -> bool:
    """Whether the run's newest copy is under way: some epochs after its lease, and not at its end."""
    newest = log_of(place, run).rpartition("INFO leased ")[2]
    return "epoch" in newest and "released" not in newest


@contextmanager
def held(place: Workplace, run: str) -> Iterator[int]:
    """The process that trains the run, stopped in mid-run for the length of the block."""
    holder = (place.folder / f"results/small/checkpoints/{run}.lock").read_text()
    trainer = int(re.search(r"process (\d+)", holder)[1])
    os.kill(trainer, signal.SIGSTOP)
    try:
        yield trainer
    finally:
        with suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGCONT)


def stop_if_training(
    place: Workplace, run: str, holds: dict[str, ExitStack], trainers: dict[str, int]
) -> bool:
    """Stop the run's trainer when it is under way; whether it is stopped."""
    if run not in trainers and is_training(place, run):
        trainers[run] = holds[run].enter_context(held(place, run))
    return run in trainers


def train_losses(place: Workplace, run: str) -> list[float]:
    with open(place.folder / f"results/small/runs/{run}/epochs.csv") as table:
        return [float(row["train_loss"]) for row in csv.DictReader(table)]


def is_told_to_end(process: int) -> bool:
    """Whether a stopped process has a SIGTERM to answer once it goes on, or has gone on and answered it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True
    pending = [int(word, 16) for word in re.findall(r"^(?:Shd|Sig)Pnd:\s+(\w+)", status, re.MULTILINE)]
    return any(mask & 1 << signal.SIGTERM - 1 for mask in pending)


def without(local: Workplace, run: str, folder: Path) -> Workplace:
    """A copy of the finished study in which one run is still to be done, and the tables with it."""
    shutil.copytree(local.folder, folder, symlinks=True)
    for name in ("tables", f"runs/{run}"):
        shutil.rmtree(folder / "results/small" / name)
    (folder / f"results/small/logs/train/{run}.log").unlink()
    return Workplace(folder)


def devices_in_use(tasks) -> list[tuple[str, str, float, float]]:
    """Node, device, start and end of every job."""
    jobs: dict[tuple, list] = {}
    for kind, at, job, step, node, device in tasks:
        if step == "batch":
            jobs.setdefault((job, node, device), []).append((at, kind))
    assert all([kind for _, kind in sorted(marks)] == ["start", "end"] for marks in jobs.values())
    return [(node, device, min(marks)[0], max(marks)[0]) for (_, node, device), marks in jobs.items()]


def test_each_job_has_a_device_of_its_own_and_leaves_the_records_of_a_local_run(
    cluster, on_cluster, tmp_path
):
    local, place = (Workplace.make(tmp_path / name, BRIEF) for name in ("local", "cluster"))
    local.snakemake()
    output = ended(on_cluster(place))
    assert place.records() == local.records()

    assert "Submitted array job" in output  # the range tests, in one sbatch
    uses = devices_in_use(cluster.tasks())
    assert len(uses) == 4  # two seeds of the range test, two runs; all else stayed on this machine
    for index, (node, device, start, _) in enumerate(uses):
        for other_node, other_device, other_start, other_end in uses[:index]:
            same = (node, device) == (other_node, other_device)
            assert not (same and other_start <= start < other_end), f"two jobs on {node}, device {device}"
    assert {node for node, *_ in uses} == {"n1", "n2"}
    logs = [log.read_text() for log in (place.folder / "results/small/logs").glob("*/*.log")]
    leased = [device for text in logs for device in re.findall(r"INFO leased (\S+)", text)]
    assert sorted(leased) == sorted(f"index-{device}" for _, device, *_ in uses)


def test_whatever_ends_a_job_the_study_is_completed_with_the_same_records(
    cluster, local, on_cluster, tmp_path
):
    place = Workplace.make(tmp_path / "cluster", LONG)
    process = on_cluster(place, TABLES)
    with ExitStack() as stack:
        # All are stopped in mid-run first: none comes to its end before its turn, however fast this machine is.
        holds = {run: ExitStack() for run in RUNS}
        for hold in holds.values():
            stack.enter_context(hold)
        trainers: dict[str, int] = {}
        wait_for(lambda: all([stop_if_training(place, run, holds, trainers) for run in RUNS]), process)
        jobs = {run: next(iter(cluster.jobs(run))) for run in RUNS}
        assert all(state == "RUNNING" for _, state, _ in jobs.values())

        def end(run: str, *command: str) -> None:
            """Give the command; the trainer goes on when it has been told, to write its checkpoint."""
            cluster.command(*command)
            wait_for(lambda: is_told_to_end(trainers[run]), process)
            holds[run].close()

        slow, *others = RUNS
        overdue, _, home = jobs[slow]
        elsewhere = next(run for run in others if jobs[run][2] != home)
        others.remove(elsewhere)
        # A limit less than a minute away: that is when the profile asks Slurm for its TERM. Slurm looks every 30 s.
        minutes = int(cluster.command("squeue", "-h", "-j", overdue, "-o", "%M").strip().split(":")[-2])
        cluster.command("scontrol", "update", f"jobid={overdue}", f"timelimit={minutes + 1}")
        end(others[0], "scancel", jobs[others[0]][0])
        end(others[1], "scontrol", "requeue", jobs[others[1]][0])
        # Slurm drains a node on which it starts a job that has not left it yet.
        wait_for(lambda: not cluster.has_processes(jobs[others[1]][0]), process)
        node = jobs[elsewhere][2]
        there = [job for job, _, home_of in cluster.jobs() if home_of == node]
        end(elsewhere, "scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        wait_for(lambda: not any(cluster.has_processes(job) for job in there), process)
        cluster.command("scontrol", "update", f"nodename={node}", "state=resume")
        wait_for(lambda: is_told_to_end(trainers[slow]), process)
    ended(process)

    assert place.records() == local.records()
    for run in RUNS:
        # Snakemake keeps the log of the last attempt alone.
        assert re.search(
            rf"continuing from the checkpoint at step [1-9]\d* of {STEPS}", log_of(place, run)
        ), run
        machine = json.loads((place.folder / f"results/small/runs/{run}/machine.json").read_text())
        assert machine["resumed"] >= 1
    assert not (place.folder / "results/small/checkpoints").exists()


def test_a_run_that_outlives_its_snakemake_is_not_started_beside_itself(cluster, local, on_cluster, tmp_path):
    run = RUNS[0]
    place = without(local, run, tmp_path / "cluster")
    first = on_cluster(place, TABLES)
    wait_for(lambda: is_training(place, run), first)
    first.kill()  # SIGKILL: nothing is cleared up, and the SLURM job goes on
    first.wait()
    job, _, _ = cluster.jobs(run)[0]
    with held(place, run):  # in mid-run, however fast this machine is
        holder = (place.folder / f"results/small/checkpoints/{run}.lock").read_text()
        ended(on_cluster(place, TABLES, "--retries", "0"), code=1)
    assert f"SLURM job {job}, " in holder
    assert f"another process is training this run now ({holder}); wait for it" in log_of(place, run)
    assert "Traceback" not in log_of(place, run)
    wait_for(lambda: not cluster.jobs(run))
    assert (place.folder / f"results/small/runs/{run}/run.json").exists()  # the first copy came to its end
    ended(on_cluster(place, TABLES))
    assert place.records() == local.records()


def test_without_gpus_jobs_ask_for_none_and_take_none(cluster, local, on_cluster, tmp_path):
    run, before = RUNS[1], len(cluster.tasks())
    place = without(local, run, tmp_path / "cluster")
    ended(on_cluster(place, TABLES, "--resources", "gpu=0"))
    assert {device for *_, device in cluster.tasks()[before:]} == {"none"}
    assert "leased" not in log_of(place, run)
    assert place.records() == local.records()


def test_a_run_on_several_gpus_has_them_on_one_node(cluster, local, on_cluster, tmp_path):
    run, before = RUNS[2], len(cluster.tasks())
    place = without(local, run, tmp_path / "cluster")
    for node in cluster.nodes():  # two GPUs of each node are taken: three are free, but on no one node
        cluster.command(
            "sbatch", "-o/dev/null", "--comment=taken", "-w", node, "--gpus=2", "--wrap", "sleep 3600"
        )
    wait_for(lambda: len([state for _, state, _ in cluster.jobs("taken") if state == "RUNNING"]) == 2)
    process = on_cluster(place, TABLES, "--config", "gpus_per_run=3")
    wait_for(lambda: cluster.jobs(run) and cluster.reason(run) == "Resources", process)
    cluster.command("scancel", *[job for job, *_ in cluster.jobs("taken")])
    ended(process)
    # Which three is Slurm's choice: the jobs that had the others may have left them one by one.
    given = {(node, device) for *_, node, device in cluster.tasks()[before:] if "," in device}
    threes = [device for _, device in given if len(set(device.split(","))) == 3]
    assert len(threes) == 1
    machine = json.loads((place.folder / f"results/small/runs/{run}/machine.json").read_text())
    assert machine["processes"] == 3
    assert train_losses(place, run)[:5] == pytest.approx(train_losses(local, run)[:5], rel=1e-4)


def test_runs_that_share_a_job_share_its_device_and_have_the_records_of_runs_alone(
    cluster, local, on_cluster, tmp_path
):
    before = len(cluster.tasks())
    place = Workplace.make(tmp_path / "cluster", LONG)
    ended(on_cluster(place, TABLES, "--config", "runs_per_job=2"))
    assert len(devices_in_use(cluster.tasks()[before:])) == 2
    assert place.records() == local.records()
