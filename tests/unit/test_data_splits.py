"""Counter-based random numbers, stratified samples, splits and normalisation."""

import numpy as np
import pytest
from rangefinder import data
from rangefinder.data.sampling import permutation, random_words, stratified_sample
from rangefinder.errors import InputError


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return data.load(folder)


def test_random_words_are_a_stream_of_their_purpose_seed_and_counters():
    assert random_words(5, "a", 0, 1).tolist() == random_words(9, "a", 0, 1)[:5].tolist()
    streams = [("a", 0, 1), ("a", 1, 0), ("b", 0, 1), ("a", 0), ("a", 0, 1, 0), ("a", 1 << 40, 1), ("a", -1)]
    assert len({tuple(random_words(4, *stream).tolist()) for stream in streams}) == len(streams)


def test_permutation_is_the_order_in_which_the_words_sort():
    words = random_words(1000, "test", 3).tolist()
    assert permutation(1000, "test", 3).tolist() == sorted(range(1000), key=words.__getitem__)


def test_stratified_sample_takes_each_class_in_its_share():
    labels = np.repeat([0, 1, 2, 5], [700, 200, 90, 10])[np.random.default_rng(0).permutation(1000)]
    for count in (0, 1, 7, 100, 333, 1000):
        chosen = stratified_sample(labels, count, "test", 0)
        assert len(np.unique(chosen)) == count and (np.diff(chosen) > 0).all()
        taken = np.array([(labels[chosen] == value).sum() for value in (0, 1, 2, 5)])
        assert np.abs(taken - np.array([700, 200, 90, 10]) * count / 1000).max() < 1
    first, second = (stratified_sample(labels, 100, "test", seed) for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 30  # 10 are expected


def test_split_parts_never_overlap_and_do_not_depend_on_the_runs_seed(arrays):
    plain = data.split(arrays, {"name": "digits"})
    assert plain.train.tolist() == list(range(1437)) and plain.test.tolist() == list(range(360))
    assert len(plain.validation) == 0
    whole = data.split(arrays, {"validation": 360})
    assert np.array_equal(np.sort(np.concatenate([whole.train, whole.validation])), np.arange(1437))
    exact = np.bincount(arrays.train_labels) * 360 / 1437
    assert np.abs(np.bincount(arrays.train_labels[whole.validation]) - exact).max() < 1
    small = data.split(arrays, {"validation": 360, "train_samples": 200, "test_samples": 50, "seed": 9})
    assert np.array_equal(small.validation, whole.validation)  # a trial is validated as the whole study is
    assert (len(small.train), len(small.test)) == (200, 50) and np.isin(small.train, whole.train).all()
    other = data.split(arrays, {"validation": 360, "split_seed": 1})
    assert not np.array_equal(other.validation, whole.validation)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("validation", 1437),
        ("validation", -1),
        ("validation", 0.2),
        ("train_samples", 0),
        ("train_samples", 1438),
        ("test_samples", 361),
        ("test_samples", True),
    ],
)
def test_impossible_splits(arrays, key, value):
    with pytest.raises(InputError, match=f"dataset.{key}: impossible count"):
        data.split(arrays, {key: value})


def test_normalisation_choices(arrays):
    assert data.normalisation(None, arrays) is None and data.normalisation("none", arrays) is None
    assert data.normalisation("dataset", arrays) == (arrays.mean, arrays.std)
    assert data.normalisation({"mean": [0.5], "std": [2]}, arrays) == ((0.5,), (2.0,))
    for bad in (
        "data",
        {"mean": [0.5]},
        {"mean": [0.5, 1], "std": [1]},
        {"mean": [0], "std": [0]},
        {"mean": 1, "std": 2},
    ):
        with pytest.raises(InputError, match=r"dataset\.normalise"):
            data.normalisation(bad, arrays)
