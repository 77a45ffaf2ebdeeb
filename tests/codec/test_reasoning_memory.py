"""Long audio in constant memory, both ways."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile

import uas_plugin
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.codec.reasoning.reading import Clip
from uas_plugin.codec.reasoning.windows import encode_windows

MEGA = 2**20
WINDOW_BYTES = 720_000 * (8 + 4 + 8)  # of one window: row numbers, samples, what np.where makes


def peak(work: Callable[[], object]) -> int:
    """Most bytes of arrays that were held at once."""
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Callable[[float], str]:
    def make(seconds: float) -> str:
        path = tmp_path_factory.mktemp("wav") / f"{seconds}.flac"
        with soundfile.SoundFile(path, "w", 24_000, 1) as file:
            rng = np.random.default_rng(0)
            block = (0.1 * rng.standard_normal(24_000)).astype(np.float32)
            for _ in range(int(seconds)):
                file.write(block)
        return str(path)

    return make


def test_a_file_is_read_window_by_window(recording):
    path = recording(900)

    def read() -> None:
        clip = Clip(path, "long")
        assert clip.samples == 900 * 24_000
        for window in encode_windows(clip.samples):
            assert clip.rows(window.rows).shape == (720_000,)

    # The samples alone are 86 MB, the row numbers of all windows 173 MB.
    assert peak(read) < 4 * WINDOW_BYTES


def test_what_is_encoded_holds_no_window_longer_than_its_batch(recording, tiny_codec_folder):
    tokenizer = uas_plugin.load_tokenizer(tiny_codec_folder)
    short, long = recording(90), recording(210)
    made: dict[str, BranchIds] = {}

    def encode(path: str) -> Callable[[], None]:
        return lambda: made.update({path: tokenizer.encode([path], batch_size=2)[0]})

    few = peak(encode(short))
    assert peak(encode(long)) < few + 2 * MEGA
    assert made[long].reasoning.shape == (1050, 8)
    np.testing.assert_array_equal(
        made[long].reconstruction[:1125], made[short].reconstruction[:1125]
    )


def test_long_audio_comes_in_pieces(tiny_codec_folder, tiny_codec):
    decoder = uas_plugin.load_codec(tiny_codec_folder)
    rng = np.random.default_rng(0)

    def pieces(seconds: int) -> Iterator[np.ndarray]:
        ids = BranchIds(
            rng.integers(0, tiny_codec.sizes.reasoning_codes, (5 * seconds, 8)),
            rng.integers(0, tiny_codec.sizes.codes, (25 * seconds // 2, 8)),
        )
        return decoder.stream(ids, n_steps=1)

    def play(seconds: int) -> Callable[[], None]:
        def run() -> None:
            assert sum(map(len, pieces(seconds))) == seconds * 24_000

        return run

    few = peak(play(100))
    assert peak(play(400)) < few + 2 * MEGA
