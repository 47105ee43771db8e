"""Files written before the clock was set back come to the present in their order, and others stay."""

import os
import time

from hypothesis import given
from hypothesis import strategies as st
from rangefinder import clock_skew

HOUR_NS = 3600 * 10**9


def made(folder, ahead_ns):
    """Files with these times relative to now, in ns, by name."""
    now = time.time_ns()
    for number, ahead in enumerate(ahead_ns):
        path = folder / f"{number % 3}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, ns=(now + ahead, now + ahead))
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*")}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*")}


@given(st.lists(st.one_of(st.integers(-3600, -60), st.integers(60, 3600)), max_size=12))
def test_the_order_of_all_files_stays_and_none_is_from_the_future(tmp_path_factory, seconds):
    ahead_ns = [ahead * 10**9 for ahead in seconds]
    folder = tmp_path_factory.mktemp("skew")
    before = made(folder, ahead_ns)
    assert clock_skew.to_present([folder]) == sum(ahead > 0 for ahead in ahead_ns)
    after = times(folder)
    assert all(moment <= time.time_ns() for moment in after.values())
    assert all(
        after[name] == before[name]
        for name, ahead in zip(map(str, range(99)), ahead_ns, strict=False)
        if ahead < 0
    )
    for one in before:
        for other in before:
            assert (before[one] < before[other]) == (after[one] < after[other])


def test_a_job_is_only_held_up_by_inputs_from_the_future(tmp_path, caplog):
    before = made(tmp_path, [-HOUR_NS, HOUR_NS])
    clock_skew.settle([str(tmp_path / "0/0")], tmp_path)
    assert times(tmp_path) == before
    clock_skew.settle([str(tmp_path / "0/0"), str(tmp_path / "1/1"), str(tmp_path / "gone")], tmp_path)
    assert times(tmp_path)["1"] <= time.time_ns()
    assert "1 files were written up to 3600 s ahead of this clock" in caplog.text


def test_an_input_that_is_a_little_ahead_is_waited_for(tmp_path):
    before = made(tmp_path, [5 * 10**8])
    clock_skew.settle([str(tmp_path / "0/0")], tmp_path)
    assert times(tmp_path) == before and time.time_ns() > before["0"]
