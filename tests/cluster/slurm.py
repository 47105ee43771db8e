"""A real Slurm on this machine, for the tests: two nodes of four stand-in GPUs each, from Debian's packages.

No systemd, no accounting database, no cgroups; all files are in one new folder, and what was started is stopped by
its process id. The "GPUs" are links to a character device: Slurm counts, assigns and names them like any other, and
jobs then compute on the CPU.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# Daemons are where a user's PATH may not lead.
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
ASKED = "RANGEFINDER_SLURM"  # set to "install": may install Debian's packages, and start them
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
NODES, GPUS, CPUS, MEMORY_MB = (
    2,
    4,
    8,
    16000,
)  # per node: more than the machine has, which Slurm is told to believe

CONFIGURATION = """
ClusterName=rangefinder
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits cred_expire before it starts again. It must be longer than KillWait: else the job may start
# while its first copy still dies, and the node is drained.
AuthInfo=socket={folder}/run/munge.socket,cred_expire=13
KillWait=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
TaskProlog={folder}/bin/prolog
TaskEpilog={folder}/bin/epilog
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
DefMemPerCPU=100
SlurmdParameters=config_overrides
# A node that was set down stays down until it is resumed.
ReturnToService=1
JobRequeue=1
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5
# LLN: jobs go to the node with the least to do, so that few jobs use both.
PartitionName=gpu Nodes=ALL Default=YES LLN=YES MaxTime=INFINITE State=UP
"""

# A folder for temporary files, and one for leases, per node: here all nodes share one file system. It also notes which
# device each task was given, from start to end.
PROLOG = """#!/bin/sh
mkdir -p {folder}/tmp/$SLURMD_NODENAME
echo "export TMPDIR={folder}/tmp/$SLURMD_NODENAME"
echo "export RANGEFINDER_LEASES={folder}/tmp/$SLURMD_NODENAME/leases"
echo "start $(date +%s.%N) $SLURM_JOB_ID ${{SLURM_STEP_ID:-batch}} $SLURMD_NODENAME ${{CUDA_VISIBLE_DEVICES:-none}}" \
>>{folder}/tasks
"""
EPILOG = """#!/bin/sh
echo "end $(date +%s.%N) $SLURM_JOB_ID ${{SLURM_STEP_ID:-batch}} $SLURMD_NODENAME ${{CUDA_VISIBLE_DEVICES:-none}}" \
>>{folder}/tasks
"""
# Snakemake's plugin drops every SLURM_* variable before it starts a job's step, SLURM_CONF with them.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/etc/slurm.conf; export SLURM_CONF
exec {srun} "$@"
"""


def unavailable() -> str | None:
    """Why no cluster can be started here, after installing what may be installed; None where one can."""
    if os.environ.get(ASKED) != "install":
        return f"{ASKED}=install is not set: it lets the tests install Debian's Slurm packages and start them"
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        return "Slurm's packages are taken from Debian, and this is another system"
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    if all(
        shutil.which(command, path=PATH) for command in ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
    ):
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            # Another installation may be under way: wait for it, rather than have every test skipped.
            ["apt-get", "-o", "DPkg::Lock::Timeout=300", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return f"apt-get {command[0]} failed: {' '.join(done.stderr.split())[-300:]}"
    return None


class Cluster:
    """A running cluster; `stop` ends it and takes its files away.

    Attributes:
        environment: the variables with which Slurm's commands, and Snakemake, find it.
    """

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="slurm-")
        )  # short: a socket's path has 108 characters at most
        self.folder.chmod(0o755)
        self.daemons: list[subprocess.Popen] = []
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "etc/slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{PATH}",
        }
        try:
            self._write_files()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def _write_files(self) -> None:
        for name in ("etc", "run", "log", "state", "spool", "bin", "dev", "tmp"):
            (self.folder / name).mkdir()
        key = self.folder / "etc/munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for index in range(GPUS):  # character devices: with plain files CUDA_VISIBLE_DEVICES would stay empty
            (self.folder / f"dev/gpu{index}").symlink_to("/dev/null")
        host, ports = socket.gethostname().split(".")[0], _free_ports(NODES + 1)
        nodes = [
            f"NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN\n"
            for node in range(1, NODES + 1)
        ]
        values = {"host": host, "ports": ports, "folder": self.folder, "srun": shutil.which("srun")}
        configuration = CONFIGURATION.format(**values)
        (self.folder / "etc/slurm.conf").write_text("".join([*nodes, configuration]))
        (self.folder / "etc/gres.conf").write_text(f"Name=gpu File={self.folder}/dev/gpu[0-{GPUS - 1}]\n")
        for name, text in (("prolog", PROLOG), ("epilog", EPILOG), ("srun", SRUN)):
            path = self.folder / "bin" / name
            path.write_text(text.format(**values))
            path.chmod(0o755)

    def _start_daemons(self) -> None:
        run, configuration = self.folder / "run", self.environment["SLURM_CONF"]
        self._daemon(
            *(
                "munged",
                "--foreground",
                f"--socket={run}/munge.socket",
                f"--key-file={self.folder}/etc/munge.key",
            ),
            *(f"--log-file={self.folder}/log/munged.log", f"--pid-file={run}/munged.pid"),
            f"--seed-file={run}/munged.seed",
        )
        self._wait(lambda: (run / "munge.socket").exists(), "munged did not start")
        self._daemon("slurmctld", "-D", "-f", configuration)
        for node in range(1, NODES + 1):
            self._daemon("slurmd", "-D", "-f", configuration, "-N", f"n{node}")
        self._wait(
            lambda: self.nodes() == {f"n{node}": "idle" for node in range(1, NODES + 1)}, "no idle nodes"
        )

    def _daemon(self, *command: str) -> None:
        # A killed test run takes its daemons along: the kernel ends them with their parent.
        with open(self.folder / "log" / f"{len(self.daemons)}-{command[0]}.out", "w") as output:
            self.daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],
                    env=self.environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _wait(self, ready, message: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [daemon.args[3] for daemon in self.daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-1500:] for path in sorted((self.folder / "log").iterdir()))
                raise RuntimeError(f"{message} (ended: {dead})\n{logs}")
            time.sleep(0.1)

    def command(self, *arguments: str) -> str:
        """Run one of Slurm's commands; its output.

        Raises:
            RuntimeError: the command failed.
        """
        done = subprocess.run(
            arguments, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def nodes(self) -> dict[str, str]:
        """State of every node, empty while the controller does not answer."""
        try:
            return dict(
                line.split() for line in self.command("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
            )
        except RuntimeError:
            return {}

    def jobs(self, comment: str = "") -> list[tuple[str, str, str]]:
        """Id, state and node of the jobs that wait or run, whose comment (rule and wildcards) has these words."""
        lines = self.command("squeue", "-h", "-o", "%A|%T|%N|%k").splitlines()
        return [tuple(line.split("|")[:3]) for line in lines if comment in line.split("|", 3)[3]]

    def reason(self, comment: str) -> str:
        """Why the job whose comment has these words waits."""
        lines = self.command("squeue", "-h", "-o", "%r|%k").splitlines()
        return next((line.split("|")[0] for line in lines if comment in line), "")

    def tasks(self) -> list[tuple[str, float, str, str, str, str]]:
        """What prolog and epilog noted: start or end, time in seconds, job, step, node, device."""
        path = self.folder / "tasks"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(kind, float(at), *rest) for kind, at, *rest in rows]

    def cancel_all(self) -> None:
        """End every job, by force if it does not end by itself."""
        self.command("scancel", "--user", "root")
        deadline = time.monotonic() + 30
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.2)

    def stop(self) -> None:
        """End jobs, then what they left, then the daemons in the reverse order of their start."""
        if len(self.daemons) == NODES + 2 and all(daemon.poll() is None for daemon in self.daemons):
            self.cancel_all()
        for process in self._steps():
            for member in _session(process):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def has_processes(self, job: str) -> bool:
        """Whether anything of the job is left on a node, whatever the controller says of it."""
        titles = []
        for process in self._steps():
            with suppress(OSError):
                titles.append(Path(f"/proc/{process}/cmdline").read_text())
        return any(f"[{job}." in title for title in titles)

    def _steps(self) -> list[int]:
        """Processes `slurmstepd` of this cluster: they outlive their slurmd."""
        ours = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "comm").read_text().strip() == "slurmstepd" and ours in (
                    entry / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile
                continue
        return found


def _session(process: int) -> list[int]:
    """The processes of a process's session."""
    try:
        session = os.getsid(process)
    except ProcessLookupError:
        return []
    done = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in done.stdout.split()]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
