"""The tokenizer trained on a Shar: a stop within an epoch changes nothing."""

from __future__ import annotations

import json

import pytest
import torch

from . import test_interrupt as interrupted
from .test_tokenizer_task import MODULE, arguments

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shar(corpus, tmp_path_factory):
    from uas_plugin.data.shar.write import SharOptions, write_shar

    folder = tmp_path_factory.mktemp("shar")
    write_shar(corpus / "cuts.jsonl.gz", folder, SharOptions(shard_size=3))
    return folder


def words(corpus, shar, folder, **changes):
    # Everything must come from the archives: the cache of features holds nothing.
    batch = {"max_duration": 3.0, "num_buckets": 2, "cache_mb": 0}
    found = arguments(corpus, folder, **{**interrupted.CHANGES, "batch_conf": batch, **changes})
    found[found.index("--train_cuts") + 1] = shar
    return [*map(str, found), "--resume", "true"]


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_within_an_epoch_it_goes_on_with_the_next_batch(
    corpus, shar, tmp_path, monkeypatch, workers
):
    from uas_plugin.data.shar.stream import SharStream
    from uas_plugin.espnet.tokenizer_task import TokenizerTask

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()

    def run(name):
        TokenizerTask.main(cmd=words(corpus, shar, tmp_path / name, num_workers=workers))

    run("whole")
    for look in (2, 3):  # within the first epoch, and within the rest of it
        interrupted.stopped_in(monkeypatch, lambda: run("parts"), look)
    state = torch.load(tmp_path / "parts" / "exp" / "checkpoint.pth", weights_only=False)
    assert state["reporter"]["middle"]["steps"] > 0
    asked, epoch = [], SharStream.epoch
    monkeypatch.setattr(
        SharStream, "epoch", lambda s, n, c, done=0: asked.append(done) or epoch(s, n, c, done)
    )
    run("parts")
    interrupted.assert_same(tmp_path / "parts", tmp_path / "whole")
    assert asked[0] == state["reporter"]["middle"]["steps"]  # what was shown is not read again


def test_two_processes_read_shards_of_their_own(corpus, shar, run_module, tmp_path):
    options = {"max_epoch": 1, "num_iters_per_epoch": 3, "accum_grad": 1}
    run_module(
        *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
        *words(corpus, shar, tmp_path, **options),
        *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
        launcher=("-m", "torch.distributed.run"),
    )
    for rank in (0, 1):
        known = json.loads((tmp_path / "exp" / "data_position" / f"rank{rank}.json").read_text())
        assert known["world"] == 2 and "2" in known["begins"]


def test_a_dump_of_a_shar_is_that_of_its_cuts(corpus, shar, tmp_path):
    from uas_plugin.data.audio import load_audio
    from uas_plugin.data.token_shards import merge_shards
    from uas_plugin.data.tokens import load_token_cuts, read_token_text
    from uas_plugin.espnet.tokenizer_task import TokenizerTask
    from uas_plugin.tokenizer.dump import dump_shard
    from uas_plugin.tokenizer.export import export

    (tmp_path / "train").mkdir()
    TokenizerTask.main(cmd=words(corpus, shar, tmp_path / "train", max_epoch=1))
    export(tmp_path / "train" / "exp", tmp_path / "export")
    dumps = {}
    for name, cuts in (("files", corpus / "cuts.jsonl.gz"), ("shar", shar)):
        for shard in range(2):
            dump_shard(tmp_path / "export", cuts, tmp_path / name, shard, 2)
        merge_shards(tmp_path / name, 2)
        dumps[name] = read_token_text(tmp_path / name)
    assert dumps["files"].keys() == dumps["shar"].keys()
    assert all((dumps["files"][key] == ids).all() for key, ids in dumps["shar"].items())
    # What comes after hears the recordings where they lie.
    cuts = {cut.id: cut for cut in load_token_cuts(tmp_path / "files")}
    for cut in load_token_cuts(tmp_path / "shar"):
        assert (load_audio(cut) == load_audio(cuts[cut.id])).all()
        assert cut.load_tokens().tolist() == dumps["shar"][cut.id].tolist()
