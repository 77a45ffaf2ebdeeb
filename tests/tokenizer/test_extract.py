"""Windows, packing and reading ahead, with a tokenizer that only counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.extract import Batching, extract, packed

RATE = 100


class Counter:
    """Its ids are the samples; it keeps the size of every batch."""

    sampling_rate = RATE

    def __init__(self):
        self.batches = []

    def waveform(self, audio, name):
        if audio[0] is None:
            raise UASError(f"{name}: broken")
        return audio[0]

    def encode_chunks(self, waveforms):
        self.batches.append([len(w) for w in waveforms])
        return [w.astype(np.int64) for w in waveforms]


def audio(count: int, start: int = 0):
    return np.arange(start, start + count, dtype=np.float32), RATE


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.integers(1, 6000))
def test_every_position_is_packed_once_within_the_budget(lengths, budget):
    batches = list(packed(lengths, budget))
    assert sorted(k for batch in batches for k in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[k] for k in batch) <= budget


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9000)), max_size=40),
    st.integers(1, 40),
    st.floats(1.0, 200.0),
)
def test_results_come_in_order_and_errors_stay_apart(counts, items, seconds):
    batching = Batching(batch_seconds=60.0, window_seconds=seconds, window_items=items)
    given = [
        (f"clip{k}", (None, RATE) if count is None else audio(count, k))
        for k, count in enumerate(counts)
    ]
    found = list(extract(Counter(), given, batching))
    assert [key for key, _ in found] == [key for key, _ in given]
    for (_, ids), count, k in zip(found, counts, range(len(counts)), strict=True):
        if count is None:
            assert isinstance(ids, UASError)
        else:  # chunks of 30 s are joined again
            np.testing.assert_array_equal(ids, np.arange(k, k + count))


def test_only_about_two_windows_are_read_ahead():
    taken = []

    def endless():
        k = 0
        while True:
            taken.append(k)
            yield f"clip{k}", audio(10 * RATE, k)
            k += 1

    batching = Batching(batch_seconds=60.0, window_seconds=100.0, window_items=50)
    stream = extract(Counter(), endless(), batching)
    for wanted in range(95):
        assert next(stream)[0] == f"clip{wanted}"
        assert len(taken) <= wanted + 2 * 10 + 3
    stream.close()


def test_like_lengths_go_together():
    counter = Counter()
    generator = np.random.default_rng(0)
    clips = [(f"{k}", audio(int(n), k)) for k, n in enumerate(generator.integers(50, 3000, 300))]
    list(extract(counter, clips, Batching(batch_seconds=480.0, window_seconds=2400.0)))
    padded = sum(len(batch) * max(batch) for batch in counter.batches)
    lengths = [len(samples) for _, (samples, _) in clips]
    size = len(counter.batches[0])
    as_given = [lengths[k : k + size] for k in range(0, 300, size)]
    useful = sum(lengths)
    assert sum(map(sum, counter.batches)) == useful
    wasted, before = padded - useful, sum(len(b) * max(b) for b in as_given) - useful
    assert wasted < before / 2


@pytest.mark.parametrize("changes", [{"num_workers": 0}, {"batch_seconds": 0.0}])
def test_impossible_batching_is_named(changes):
    with pytest.raises(UASError, match=next(iter(changes))):
        Batching(**changes)
    with pytest.raises(UASError, match="batch_size"):
        Batching.of(0)
