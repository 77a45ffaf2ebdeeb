"""The tokenizer trained on a Shar: a stop within an epoch changes nothing."""

from __future__ import annotations

import json
import multiprocessing

import pytest
import torch

from uas_plugin.espnet.interrupt import RETRY_EXIT

from . import test_interrupt as interrupted
from .test_tokenizer_task import arguments, weights

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


def kill_readers(patch, epoch: int) -> None:
    """As the epoch begins: later its few batches may all have been read."""
    from uas_plugin.espnet.interrupt import StopRequest
    from uas_plugin.espnet.trainer import UASTrainer

    asked = StopRequest.asked

    def watched(self):
        if UASTrainer._epoch.report.epoch == epoch and UASTrainer._epoch.steps == 0:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
        return asked(self)

    patch.setattr(StopRequest, "asked", watched)


def test_stopped_within_an_epoch_it_goes_on_with_the_next_batch(
    corpus, shar, tmp_path, monkeypatch
):
    from uas_plugin.data.shar.stream import SharStream
    from uas_plugin.espnet.tokenizer_task import TokenizerTask

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()

    def run(name):
        TokenizerTask.main(cmd=words(corpus, shar, tmp_path / name, num_workers=2))

    run("whole")
    for look in (2, 3):  # within the first epoch, and within the rest of it
        interrupted.stopped_in(monkeypatch, lambda: run("parts"), look)
    state = torch.load(tmp_path / "parts" / "exp" / "checkpoint.pth", weights_only=False)
    assert state["reporter"]["middle"]["steps"] > 0
    asked, epoch = [], SharStream.epoch
    monkeypatch.setattr(
        SharStream, "epoch", lambda s, n, c, done=0: asked.append(done) or epoch(s, n, c, done)
    )
    # The memory is full, and readers are what the system kills.
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed by|exited unex"):
        kill_readers(patch, epoch=2)
        run("parts")
    assert (tmp_path / "parts" / "exp" / "1epoch.pth").exists()
    assert not (tmp_path / "parts" / "exp" / "2epoch.pth").exists()
    run("parts")
    interrupted.assert_same(tmp_path / "parts", tmp_path / "whole")
    assert asked[0] == state["reporter"]["middle"]["steps"]  # what was shown is not read again


PROGRAM = """
import os, signal, sys
from uas_plugin.espnet.interrupt import StopRequest
from uas_plugin.espnet.tokenizer_task import TokenizerTask

looks, asked = [0], StopRequest.asked

def signalled(self):
    looks[0] += 1
    if str(looks[0]) == os.environ.get("STOP_AT") and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return asked(self)

StopRequest.asked = signalled
TokenizerTask.main(cmd=sys.argv[1:])
"""


def test_two_processes_stop_together_and_go_on(corpus, shar, run_module, tmp_path, monkeypatch):
    """One of two processes gets the signal, within an epoch; the weights are as if it had not."""
    (tmp_path / "program.py").write_text(PROGRAM)
    status = {}
    for name, stop in (("whole", ""), ("parts", "2"), ("parts", "")):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setenv("STOP_AT", stop)
        options = {"num_workers": 0, "max_epoch": 2}
        done = run_module(
            *("uas_plugin.espnet.torchrun", "--nproc_per_node", "2", "--standalone"),
            *(tmp_path / "program.py", *words(corpus, shar, tmp_path / name, **options)),
            *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
            check=False,
        )
        status[name, stop] = done.returncode
        if stop:
            path = tmp_path / name / "exp" / "checkpoint.pth"
            state = torch.load(path, weights_only=False)["reporter"]
            assert (state["epoch"], state["middle"]["steps"]) == (0, 2)
            assert "stopped by a signal to another process" in done.stderr
    assert status == {("whole", ""): 0, ("parts", "2"): RETRY_EXIT, ("parts", ""): 0}
    ours, theirs = (weights(tmp_path / name, "2epoch.pth") for name in ("parts", "whole"))
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []
    assert interrupted.reports(tmp_path / "parts") == interrupted.reports(tmp_path / "whole")
    for rank in (0, 1):
        path = tmp_path / "parts" / "exp" / "data_position" / f"rank{rank}.json"
        assert json.loads(path.read_text())["world"] == 2


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
