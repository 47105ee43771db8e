"""Commands and files in the documentation's pages, as a reader would take them from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language ('' where indented), the file it is to become, if any, and its text."""

    language: str
    file: str | None
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order; an indented block ends at an empty line."""
    text = page.read_text()
    found = [(match.start(), Block(match[1], match[2], match[3])) for match in FENCE.finditer(text)]
    outside = FENCE.sub(lambda match: "\n" * len(match[0]), text)  # positions stay
    for match in re.finditer(r"(?:^ {4}.*\n)+", outside + "\n", re.MULTILINE):
        found.append((match.start(), Block("", None, re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE))))
    return (block for _, block in sorted(found, key=lambda entry: entry[0]))


def checkout(folder: Path, root: Path) -> Path:
    """A checkout whose files are links to the real one's, so that nothing is written there."""
    folder.mkdir()
    for path in root.iterdir():
        if path.name not in ("results", "config", ".snakemake", ".venv", ".git"):
            (folder / path.name).symlink_to(path)
    made = shutil.ignore_patterns("shapes", "*.npz")  # what a reader has made in the examples
    shutil.copytree(root / "config", folder / "config", ignore=made)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


# A line that begins so is a command: a word that a shell would find, perhaps after assignments.
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*$")
_BUILTINS = ("cd", "export", "source", "(cd")
_PROGRAMS = (
    "snakemake",
    "snakedeploy",
    "conda",
    "docker",
    "podman",
    "apptainer",
    "sacct",
    "scancel",
    "squeue",
    "scontrol",
)


def is_commands(block: Block) -> bool:
    """Whether a block of code is for a shell: it says so, or its first line begins with a command or an option."""
    if block.language:
        return block.language == "sh"
    lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
    if not lines:
        return False
    first = next((word for word in lines[0].split() if not _ASSIGNMENT.match(word)), "")
    if not first:  # an assignment alone
        return True
    return first.startswith("--") or first in (*_BUILTINS, *_PROGRAMS) or shutil.which(first) is not None


# A shell in which nothing is run: each command prints its words, as the shell has expanded them.
_PRINTS = r"""
exec 9>&1  # also for what stands in a pipe
say() { local IFS=$'\x1f'; printf '%s\x1f\x1e' "$*" >&9; }  # one write: both sides of a pipe run at once
command_not_found_handle() { say "$@"; }
for name in printf test kill; do enable -n $name 2> /dev/null; done
enable printf
source() { say source "$@"; }
cd() { :; }
"""


def words(text: str) -> list[list[str]]:
    """The commands of a block as lists of words, after the shell's expansions; nothing is run.

    A line of options alone is taken as an addition to a command for a cluster.
    """
    text = re.sub(r"^--", "snakemake --workflow-profile profiles/slurm --", text, flags=re.MULTILINE)
    text = re.sub(r"<\w+>", "X", text)
    variables = {"PATH": "/nowhere", "HOME": "/nowhere"}
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, "-c", _PRINTS + text], env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"not a command: {text!r}: {done.stderr}")
    return [command.split("\x1f")[:-1] for command in done.stdout.split("\x1e") if command]


def plan_all(place: Path) -> None:
    """Dry-run the Snakemake commands of standard input, a JSON list each, in a checkout: exit status and output.

    One process imports Snakemake and forks for each, which saves its start.
    """
    import snakemake.cli

    os.chdir(place)
    os.environ["RANGEFINDER_FAKE_GPUS"] = "0"
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if child == 0:
                code = 1
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                try:
                    snakemake.cli.main([*json.loads(line), "--dry-run", "--quiet", "all"])
                    code = 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 1
                except BaseException as error:
                    print(type(error).__name__, error, flush=True)
                sys.stdout.flush()
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            print(json.dumps([code, output.read()]), flush=True)


if __name__ == "__main__":
    plan_all(Path(sys.argv[1]))
