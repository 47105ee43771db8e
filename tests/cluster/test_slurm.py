"""The workflow on a real Slurm cluster, through the profile that the project ships."""

import re
import subprocess
from pathlib import Path

import pytest
import slurm
from workplace import SMALL, Workplace

# Quick polling: the plugin's first look at its jobs comes after this time, then every 10 s more.
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")
BRIEF = SMALL[: SMALL.index("sweeps:")] + "sweeps: {only: {grid: {optimizer: [sgd], schedule: [none]}}}\n"
PATIENCE_S = 600  # the machine may be busy; nothing here depends on how long it takes


@pytest.fixture(scope="module")
def cluster():
    reason = slurm.unavailable()
    if reason:
        pytest.skip(reason)
    cluster = slurm.Cluster()
    yield cluster
    cluster.stop()


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
