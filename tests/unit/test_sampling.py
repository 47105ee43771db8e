"""Properties of the sampler: every sample once, pure functions, classes in their share, orders as torch draws them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rangefinder.data import orders, sampling

SEEDS = st.integers(0, 2**53 - 1)


@given(SEEDS, st.integers(0, 10**6), st.integers(0, 300))
def test_an_epoch_visits_every_sample_once_and_is_a_pure_function(seed, epoch, n):
    order = orders.epoch_order(seed, epoch, n)
    assert sorted(order.tolist()) == list(range(n))
    assert torch.equal(order, orders.epoch_order(seed, epoch, n))


@given(SEEDS, SEEDS, st.integers(0, 1000), st.integers(0, 1000))
def test_another_seed_or_epoch_is_another_order(seed, other, epoch, later):
    first = orders.epoch_order(seed, epoch, 64)
    same = (seed, epoch) == (other, later)
    assert (
        torch.equal(first, orders.epoch_order(other, later, 64)) == same
    )  # 1 in 64! that two differ in nothing


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), SEEDS, st.data())
def test_a_stratified_sample_has_every_class_in_its_share(labels, seed, data):
    labels = np.array(labels)
    count = data.draw(st.integers(0, len(labels)))
    chosen = sampling.stratified_sample(labels, count, "test", seed)
    assert len(chosen) == count == len(set(chosen.tolist())) and (np.diff(chosen) > 0).all()
    for value in set(labels.tolist()):
        share = (labels == value).sum() * count / len(labels)
        assert np.floor(share) <= (labels[chosen] == value).sum() <= np.ceil(share)


@given(SEEDS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=25)
def test_the_replayed_orders_are_those_of_a_dataloader(seed, n, batch_size, epochs):
    data = torch.utils.data.TensorDataset(torch.arange(n))
    train = torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=True)
    test = torch.utils.data.DataLoader(data, batch_size=batch_size)
    torch.manual_seed(seed)
    ours = orders.TorchDataLoaderOrder(torch.get_rng_state(), epochs)
    for epoch in range(epochs):
        drawn = torch.cat([batch for (batch,) in train])
        list(test)
        assert torch.equal(ours.order(epoch, n), drawn)
