"""A small real study, run once by Snakemake, that the workflow tests look at and copy."""

import shutil

import pytest
from long_run import InBackground
from workplace import Workplace


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workplace:
    """The small study, run to its report. Tests that change it take a `copy`."""
    place = Workplace.make(tmp_path_factory.mktemp("finished"))
    place.snakemake()
    return place


@pytest.fixture
def copy(finished, tmp_path) -> Workplace:
    """A copy of the finished study with its times and Snakemake's memory of it."""
    target = tmp_path / "copy"
    shutil.copytree(finished.folder, target, symlinks=True)
    return Workplace(target)


@pytest.fixture
def in_background():
    """Start Snakemake in the background; what is left of it ends with the test."""
    started = []

    def start(place: Workplace) -> InBackground:
        started.append(InBackground(place))
        return started[-1]

    yield start
    for snakemake in started:
        snakemake.end()
