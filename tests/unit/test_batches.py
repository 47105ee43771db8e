"""Orders, augmentation and batches against torch's DataLoader and torchvision's transforms."""

import numpy as np
import pytest
import torch
from PIL import Image
from rangefinder.data import (
    Augmentation,
    Loader,
    TorchDataLoaderOrder,
    epoch_order,
    evaluation_batches,
)
from rangefinder.data import batches as batches_module
from rangefinder.data.augment import _apply_on_device, _apply_on_host
from rangefinder.errors import InputError
from scipy.stats import chisquare
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from torchvision.transforms import functional

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def make_images(count, channels=3, size=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8), rng.integers(0, 10, count)


def picture(image):
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def identical(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)


# --- orders ---------------------------------------------------------------------------------------


def test_epoch_order_is_a_pure_function_and_a_permutation():
    order = epoch_order(3, 5, 1000)
    assert order.dtype == torch.int64 and order.sort().values.tolist() == list(range(1000))
    torch.manual_seed(0)
    assert identical(order, epoch_order(3, 5, 1000))
    assert torch.initial_seed() == 0
    others = [
        epoch_order(5, 3, 1000),
        epoch_order(3, 6, 1000),
        epoch_order(2, 5, 1000),
        epoch_order(0, 0, 1000),
    ]
    for other in others:
        # Two independent permutations have one sample at the same place on average (Poisson).
        assert (other == order).sum() < 10


def test_epoch_order_never_changes():
    """A change would silently alter every published run."""
    assert epoch_order(0, 0, 8).tolist() == [6, 5, 1, 4, 3, 2, 7, 0]
    assert epoch_order(1024, 7, 8).tolist() == [5, 6, 4, 7, 0, 1, 2, 3]


def test_every_sample_is_equally_likely_at_every_place():
    n, epochs = 8, 4000
    counts = np.zeros((n, n))
    for epoch in range(epochs):
        counts[np.arange(n), epoch_order(0, epoch, n).numpy()] += 1
    assert chisquare(counts.ravel(), ddof=2 * n - 2).pvalue > 1e-3


@pytest.mark.parametrize("evaluates_test", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_replays_torchs_dataloader(evaluates_test, workers):
    torch.manual_seed(1024)
    torch.nn.Linear(7, 5)  # a model draws its weights first
    state = torch.get_rng_state()
    train = DataLoader(TensorDataset(torch.arange(203)), batch_size=16, shuffle=True, num_workers=workers)
    test = DataLoader(TensorDataset(torch.arange(50)), batch_size=16, num_workers=workers)
    epochs = 4 if workers == 0 else 2
    expected = []
    for _ in range(epochs):
        expected.append(torch.cat([batch for (batch,) in train]))
        if evaluates_test:
            for _ in test:
                pass
    torch.manual_seed(5)
    replay = TorchDataLoaderOrder(state, epochs, evaluates_test=evaluates_test)
    for epoch in reversed(range(epochs)):  # in any order, since it is a pure function
        assert identical(replay.order(epoch, 203), expected[epoch])
        assert identical(replay(epoch, 203), expected[epoch])
    assert torch.initial_seed() == 5


# --- pixels ---------------------------------------------------------------------------------------


def test_every_grey_level_is_scaled_as_totensor_does():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    ((x, _),) = evaluation_batches(levels, np.zeros(1, dtype=np.int64))
    assert identical(x[0], transforms.ToTensor()(picture(levels[0])))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_torchvisions_totensor_and_normalize(channels, channels_last):
    images, labels = make_images(50, channels)
    mean, std = MEAN[:channels], STD[:channels]
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    loader = Loader(images, labels, batch_size=16, normalise=(mean, std), seed=2, channels_last=channels_last)
    loader.start_epoch(1)
    order = epoch_order(2, 1, 50)
    for step in range(loader.steps_per_epoch):
        x, y = loader.batch(step)
        chosen = order[step * 16 : step * 16 + 16]
        assert identical(x, torch.stack([reference(picture(images[i])) for i in chosen]))
        assert identical(y, torch.from_numpy(labels)[chosen])
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert x.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("apply", [_apply_on_host, _apply_on_device])
def test_augmentation_is_torchvisions_crop_and_hflip(padding, flip, channels, apply):
    images, _ = make_images(64, channels, size=9)
    what = Augmentation(padding=padding, flip=flip)
    draws = what.draw(0, 3, 64)
    indices = epoch_order(0, 0, 64)[:40]
    result = apply(what, what.pad(torch.from_numpy(images)), indices, draws)
    for position, index in enumerate(indices.tolist()):
        expected = functional.pad(picture(images[index]), padding)
        expected = functional.crop(expected, int(draws.top[index]), int(draws.left[index]), 9, 9)
        if draws.flip[index]:
            expected = functional.hflip(expected)
        assert identical(result[position], functional.pil_to_tensor(expected))


def test_augmented_batches_are_the_write_ups_transform():
    """RandomCrop(padding) and flip on the picture, then ToTensor and Normalize: the padding is black."""
    images, labels = make_images(30)
    what = Augmentation.from_spec({"random_crop": 4, "horizontal_flip": True})
    loader = Loader(images, labels, batch_size=7, normalise=(MEAN, STD), augmentation=what, seed=1)
    loader.start_epoch(2)
    draws, order = what.draw(1, 2, 30), epoch_order(1, 2, 30)
    after = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    for step in range(5):
        x, _ = loader.batch(step)
        for row, index in zip(x, order[step * 7 : step * 7 + 7].tolist(), strict=True):
            shown = functional.crop(
                functional.pad(picture(images[index]), 4),
                int(draws.top[index]),
                int(draws.left[index]),
                16,
                16,
            )
            assert identical(row, after(functional.hflip(shown) if draws.flip[index] else shown))


def test_draws_are_uniform_and_independent():
    n = 90_000
    draws = Augmentation(padding=4, flip=True).draw(0, 0, n)
    joint = (draws.top * 9 + draws.left) * 2 + draws.flip
    assert chisquare(np.bincount(joint.numpy(), minlength=162)).pvalue > 1e-3
    again = Augmentation(padding=4, flip=True).draw(0, 1, n)
    assert abs((again.top == draws.top).float().mean() - 1 / 9) < 0.005
    still = Augmentation(padding=0, flip=False).draw(0, 0, 100)
    assert not still.top.any() and not still.left.any() and not still.flip.any()


def test_augmentation_specifications():
    assert Augmentation.from_spec(None) is None
    assert Augmentation.from_spec({"random_crop": 0, "horizontal_flip": False}) is None
    assert Augmentation.from_spec({"random_crop": 4}) == Augmentation(padding=4, flip=False)
    for bad in ({"crop": 4}, {"random_crop": True}, {"random_crop": -1}, {"horizontal_flip": 1}):
        with pytest.raises(InputError, match=r"augmentation"):
            Augmentation.from_spec(bad)


# --- the loader -----------------------------------------------------------------------------------


def epoch_of(loader, epoch):
    loader.start_epoch(epoch)
    return [tuple(part.clone() for part in loader.batch(step)) for step in range(loader.steps_per_epoch)]


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [
        (16, False, [16, 16, 16, 2]),
        (16, True, [16, 16, 16]),
        (50, True, [50]),
        (64, False, [50]),
        (1, False, [1] * 50),
    ],
)
def test_steps_and_batch_sizes(batch_size, drop_last, sizes):
    images, labels = make_images(50)
    loader = Loader(images, labels, batch_size=batch_size, drop_last=drop_last)
    assert [len(y) for _, y in epoch_of(loader, 0)] == sizes and loader.steps_per_epoch == len(sizes)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("augmentation", [None, Augmentation(4, True)])
def test_batches_made_several_at_a_time_are_those_made_alone(monkeypatch, augmentation, drop_last):
    images, labels = make_images(75)
    settings = {"batch_size": 8, "normalise": (MEAN, STD), "augmentation": augmentation}
    several = Loader(images, labels, drop_last=drop_last, **settings)
    monkeypatch.setattr(batches_module, "GATHERED_BYTES", 8 * images[0].size)
    alone = Loader(images, labels, drop_last=drop_last, **settings)
    monkeypatch.setattr(batches_module, "GATHERED_BYTES", 3 * 8 * images[0].size)
    threes = Loader(images, labels, drop_last=drop_last, **settings)
    made = []
    for loader in (alone, several, threes):
        calls = []
        between = loader.between
        loader.between = lambda *places, calls=calls, between=between: (
            calls.append(places) or between(*places)
        )
        made.append([*epoch_of(loader, 0), *epoch_of(loader, 1)])
        steps = loader.steps_per_epoch
        assert len(calls) == 2 * {alone: steps, several: 1, threes: -(-steps // 3)}[loader]
    for one in zip(*made, strict=True):
        assert all(identical(x, one[0][0]) and identical(y, one[0][1]) for x, y in one)


def test_any_batch_of_any_epoch_can_be_made_again():
    images, labels = make_images(50)
    settings = {"batch_size": 16, "seed": 4, "augmentation": Augmentation(4, True), "normalise": (MEAN, STD)}
    loader = Loader(images, labels, **settings)
    epochs = [epoch_of(loader, epoch) for epoch in range(3)]
    fresh = Loader(images, labels, **settings)
    for epoch, step in [(2, 3), (0, 1), (1, 0), (1, 0), (0, 3), (2, 0)]:
        fresh.start_epoch(epoch)
        x, y = fresh.batch(step)
        assert identical(x, epochs[epoch][step][0]) and identical(y, epochs[epoch][step][1])
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])
    other = epoch_of(Loader(images, labels, **{**settings, "seed": 5}), 0)
    assert not torch.equal(other[0][0], epochs[0][0][0])


def test_a_subset_is_a_data_set_of_its_own():
    images, labels = make_images(50)
    chosen = np.array([3, 4, 10, 20, 21, 22, 49])
    settings = {"batch_size": 3, "augmentation": Augmentation(2, True)}
    subset = Loader(images, labels, indices=chosen, **settings)
    alone = Loader(images[chosen], labels[chosen], **settings)
    assert subset.samples == 7
    for (x, y), (x2, y2) in zip(epoch_of(subset, 1), epoch_of(alone, 1), strict=True):
        assert identical(x, x2) and identical(y, y2)
    everything = np.roll(np.arange(50), 1)  # all samples, but not in storage order
    rolled = torch.cat([y for _, y in evaluation_batches(images, labels, indices=everything)])
    assert rolled.tolist() == labels[everything].tolist()


def test_not_resident_gives_the_same_batches():
    images, labels = make_images(50)
    for augmentation in (None, Augmentation(4, True)):
        pair = [
            epoch_of(Loader(images, labels, batch_size=16, augmentation=augmentation, resident=resident), 0)
            for resident in (True, False)
        ]
        assert all(identical(a[0], b[0]) and identical(a[1], b[1]) for a, b in zip(*pair, strict=True))


def test_the_callers_order_is_followed():
    images, labels = make_images(20)
    loader = Loader(images, labels, batch_size=20, order=lambda epoch, n: torch.arange(n).roll(epoch))
    loader.start_epoch(3)
    assert loader.batch(0)[1].tolist() == np.roll(labels, 3).tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(dtype):
    images, labels = make_images(20)
    single = epoch_of(Loader(images, labels, batch_size=8, normalise=(MEAN, STD)), 0)
    other = epoch_of(Loader(images, labels, batch_size=8, normalise=(MEAN, STD), dtype=dtype), 0)
    assert all(identical(a.to(dtype), b) for (a, _), (b, _) in zip(single, other, strict=True))


def test_batches_do_not_change_the_data():
    images, labels = make_images(20)
    before = images.copy()
    epoch_of(
        Loader(images, labels, batch_size=8, augmentation=Augmentation(0, True), normalise=(MEAN, STD)), 0
    )
    list(evaluation_batches(images, labels, batch_size=8, normalise=(MEAN, STD)))
    np.testing.assert_array_equal(images, before)


def test_evaluation_goes_through_all_samples_in_order_each_time():
    images, labels = make_images(50)
    batches = evaluation_batches(images, labels, indices=np.arange(5, 47), batch_size=16)
    assert (len(batches), batches.samples) == (3, 42)
    for _ in range(2):
        assert torch.cat([y for _, y in batches]).tolist() == labels[5:47].tolist()
        x = torch.cat([x for x, _ in batches])
        assert identical(x, torch.from_numpy(images[5:47]).float() / 255)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"batch_size": 51, "drop_last": True}])
def test_impossible_batch_sizes(settings):
    images, labels = make_images(50)
    with pytest.raises(InputError, match=r"batch_size: impossible batch size .*1 to 50"):
        Loader(images, labels, **settings)


def test_normalising_needs_a_value_per_channel():
    images, labels = make_images(50, channels=1)
    with pytest.raises(InputError, match=r"one mean and one standard deviation per channel"):
        Loader(images, labels, batch_size=8, normalise=(MEAN, STD))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("resident", [True, False])
def test_a_gpu_gives_the_same_bits(resident):
    images, labels = make_images(50)
    settings = {"batch_size": 16, "augmentation": Augmentation(4, True), "normalise": (MEAN, STD)}
    host = epoch_of(Loader(images, labels, **settings), 1)
    device = epoch_of(Loader(images, labels, device="cuda", resident=resident, **settings), 1)
    assert all(
        identical(a[0], b[0].cpu()) and identical(a[1], b[1].cpu()) for a, b in zip(host, device, strict=True)
    )
