"""Every fault of the torture suite once, in its short form: one training job instead of a workflow."""

import pytest
from endure import endure
from faults import FAULTS, CannotBeDone
from places import Job


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    place = Job(tmp_path_factory.mktemp("torture") / "origin")
    place.fill()
    place.prepare()
    return place


@pytest.fixture(scope="module")
def undisturbed(origin):
    place = origin.copy(origin.folder.with_name("undisturbed"))
    place.run_undisturbed()
    origin.seconds = place.seconds
    return place


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if Job in fault.places])
def test_a_job_loses_nothing(name, origin, undisturbed, tmp_path):
    try:
        outcome = endure(FAULTS[name], origin, undisturbed, tmp_path / "place", seed=1)
    except CannotBeDone as reason:
        pytest.skip(str(reason))
    assert outcome.lost == ()
