"""What a killed Snakemake leaves is cleared by the next one, and by none that cannot know that it is dead."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from rangefinder import sessions
from rangefinder.errors import InputError

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
# Stands for Snakemake: a session with a temporary folder, like Snakemake's own, and the copy of a job's script.
SNAKEMAKE = """
import sys, tempfile
from pathlib import Path
from rangefinder import sessions
temporary = tempfile.TemporaryDirectory(prefix="snakemake")
sessions.begin(temporary=[temporary.name])
if sys.argv[1:]:
    Path(".snakemake/scripts").mkdir(exist_ok=True)
    Path(".snakemake/locks").mkdir(exist_ok=True)
    Path(".snakemake/scripts", sys.argv[1]).write_text("...")
    Path(".snakemake/locks/0.input.lock").write_text("...")
print("begun", flush=True)
sys.stdin.read()
"""
IN_CLUSTER = "from rangefinder import sessions; sessions.in_cluster()"


class Folder:
    """A working folder with a folder for temporary files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "TMPDIR": str(path / "tmp"), "PYTHONPATH": str(SCRIPTS)}
        (path / "tmp").mkdir()
        self.running = []

    def start(self, *script: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", SNAKEMAKE, *script],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    def killed(self, *script: str) -> None:
        process = self.start(*script)
        process.kill()
        process.wait()

    def run(self, *script: str) -> None:
        process = self.start(*script)
        process.communicate()
        assert process.returncode == 0

    def left(self) -> list[str]:
        parts = ("scripts", "locks", "rangefinder")
        found = [path for part in parts for path in sorted((self.path / ".snakemake" / part).glob("*"))]
        return [path.name for path in [*found, *sorted((self.path / "tmp").glob("*"))]]


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    for process in folder.running:
        process.kill()
        process.communicate()


def test_what_a_killed_one_left_is_cleared_by_the_next(folder):
    folder.killed("tmpabc.train.py")
    assert len(folder.left()) == 4, folder.left()  # a script, a lock, a session, a temporary folder
    folder.run()
    assert folder.left() == []


def test_nothing_is_cleared_while_another_one_lives(folder):
    folder.killed("tmpabc.train.py")
    (session,) = (folder.path / ".snakemake/rangefinder").iterdir()
    text = session.read_text()
    alive = folder.start()
    session.write_text(text)  # as if it had been killed after the other one began
    scripts = folder.path / ".snakemake/scripts"
    scripts.mkdir(exist_ok=True)
    (scripts / "tmpdef.train.py").write_text("...")
    folder.run()
    assert (scripts / "tmpdef.train.py").exists()
    assert session.exists()
    alive.communicate()
    folder.run()
    assert folder.left() == []


def test_nothing_is_cleared_after_one_on_another_machine(folder):
    folder.killed("tmpabc.train.py")
    (session,) = (folder.path / ".snakemake/rangefinder").iterdir()
    lines = session.read_text().splitlines()
    session.write_text("\n".join(["another-host", *lines[1:]]))
    before = folder.left()
    folder.run()
    assert folder.left() == before


def test_a_cluster_job_keeps_the_script_that_it_may_be_running_from(folder):
    folder.killed("tmpabc.train.py")
    scripts = folder.path / ".snakemake/scripts"
    (scripts / "tmpold.train.py").write_text("...")
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(scripts / "tmpold.train.py", (long_ago, long_ago))
    subprocess.run([sys.executable, "-c", IN_CLUSTER], cwd=folder.path, env=folder.environment, check=True)
    folder.run()
    assert [path.name for path in scripts.iterdir()] == ["tmpabc.train.py"]

    folder.killed(
        "tmpdef.train.py"
    )  # a month after the last job on a cluster none of its jobs can still be there
    os.utime(folder.path / ".snakemake/rangefinder/cluster", (long_ago, long_ago))
    folder.run()
    assert list(scripts.iterdir()) == []


def test_only_folders_that_were_made_to_be_temporary_are_deleted(folder):
    kept = [folder.path / "results", folder.path / "tmp/snakemake-notes", folder.path / "snakemake-mine"]
    for path in kept:
        path.mkdir()
    made = Path(tempfile.mkdtemp(prefix="snakemake", dir=folder.path / "tmp"))
    link = folder.path / "tmp/snakemakelinklink"
    link.symlink_to(folder.path / "results")
    folder.killed()
    (session,) = (folder.path / ".snakemake/rangefinder").iterdir()
    with open(session, "a") as file:
        file.write("\n".join(["", *map(str, [*kept, made, link]), "tmp/relative", ""]))
    folder.run()
    assert all(path.is_dir() for path in kept) and link.is_symlink()
    assert not made.exists()


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path):
    (tmp_path / ".snakemake").write_text("a file, where a folder has to be")  # root may write anywhere else
    with pytest.raises(InputError, match=r"^\S*\.snakemake: cannot be written: Not a directory$"):
        sessions.begin(tmp_path / ".snakemake")
