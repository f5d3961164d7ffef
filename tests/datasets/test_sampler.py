"""Epochs hold every image once, and repeat."""

from itertools import islice

import pytest

from datasets.sampler import EpochSampler


def test_epochs_hold_every_image_once_and_end_with_a_partial_batch():
    sampler = EpochSampler(11, 4, seed=0, name="mvtec_nut")
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3 and [len(batch) for batch in batches] == [4, 4, 3]
    draws = [draw for batch in batches for draw in batch]
    assert sorted(draw.index for draw in draws) == list(range(11))
    assert len({draw.seed for draw in draws}) == 11 and all(draw.synthesise for draw in draws)


def test_epochs_repeat_and_depend_on_seed_class_epoch_and_purpose():
    def batches(seed=0, name="mvtec_nut", epoch=0, purpose="train"):
        sampler = EpochSampler(50, 8, seed, name)
        sampler.set_epoch(epoch, purpose)
        return list(sampler)

    assert batches() == batches()
    variants = [batches(), batches(seed=1), batches(name="mvtec_a"), batches(epoch=1), batches(purpose="center")]
    seeds = [draw.seed for variant in variants for batch in variant for draw in batch]
    assert len(set(seeds)) == 5 * 50
    orders = {tuple(draw.index for batch in variant for draw in batch) for variant in variants}
    assert len(orders) == 5
    with pytest.raises(ValueError, match="Purpose 'test'"):
        batches(purpose="test")


def test_last_batch_is_that_of_the_centre_pass():
    sampler = EpochSampler(11, 4, seed=3, name="mvtec_nut")
    sampler.set_epoch(6, "center")
    last = list(sampler)[-1]
    sampler.set_epoch(6, "train")
    assert sampler.last_batch(6) == [draw.index for draw in last] and not any(draw.synthesise for draw in last)
    assert len(EpochSampler(8, 4, 0, "a").last_batch(0)) == 4


def test_a_stream_is_one_epoch_after_the_other_from_where_a_run_stopped():
    sampler, apart = EpochSampler(11, 4, seed=0, name="mvtec_nut"), []
    for epoch in (2, 3, 4):
        sampler.set_epoch(epoch)
        apart += [[draw._replace(whole=False) for draw in batch] for batch in list(sampler)[:2]]
    sampler.stream(2, start=1, steps=2)
    assert list(islice(sampler, 5)) == apart[1:]
    sampler.set_epoch(2)
    assert [draw.whole for batch in sampler for draw in batch] == [True] * 11
