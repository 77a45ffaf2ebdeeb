"""The AudioLLM as a real ESPnet training."""

import json

import numpy as np
import pytest
import torch
import yaml

from uas_plugin.audiollm.chat import Example
from uas_plugin.audiollm.dataset import GroupWriter
from uas_plugin.audiollm.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.audiollm_train"
CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 2,
    "num_iters_per_epoch": 3,
    "keep_nbest_models": 2,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "model_conf": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32},
    "batch_conf": {"row_tokens": 64, "rows": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty clips of made tokens with two items each, and a codebook to start from."""
    folder = tmp_path_factory.mktemp("lm")
    vocabulary = Vocabulary(text_size=40, codebook_size=16, frame_rate=25.0)
    vocabulary.save(folder / "vocab.json")
    generator = np.random.default_rng(0)
    np.save(folder / "codebook.npy", generator.standard_normal((16, 8)).astype(np.float32))
    (folder / "shards").mkdir()
    (folder / "shards" / "shards.json").write_text('{"shards": 3}')
    for name in ("train", "dev", *(f"shards/{n:05d}" for n in range(3))):
        with GroupWriter(folder / name, vocabulary.size) as writer:
            for number in range(20):
                prefix = vocabulary.audio_ids(generator.integers(0, 16, 12))
                answer = [int(prefix[0] % 40), vocabulary.im_end]
                items = [(task, Example(prefix, [5, 6, 7], answer)) for task in ("uas", "qa")]
                writer.add(f"clip{number}", items)
            writer.finish()
    return folder


def arguments(data, folder, **changes):
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return [
        *("--config", config, "--train_data", data / "train", "--valid_data", data / "dev"),
        *("--vocab", data / "vocab.json", "--output_dir", folder / "exp", "--resume", "true"),
    ]


def weights(folder):
    return torch.load(folder / "exp" / "valid.loss.ave.pth", weights_only=True)


@pytest.fixture(scope="module")
def trained(data, run_module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_module(MODULE, *arguments(data, folder))
    return folder


def test_trained_model_is_rebuilt_without_espnet(trained, data):
    from uas_plugin.audiollm.export import load_trained

    model = load_trained(trained / "exp", Vocabulary.load(data))
    final = weights(trained)
    state = model.state_dict()
    assert all(torch.equal(state[name.removeprefix("model.")], final[name]) for name in final)


def test_stopping_and_resuming_gives_the_same_weights(trained, data, run_module, tmp_path):
    run_module(MODULE, *arguments(data, tmp_path, max_epoch=1))
    run_module(MODULE, *arguments(data, tmp_path))
    expected, got = weights(trained), weights(tmp_path)
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []


@pytest.mark.parametrize("part", ["train", "shards"])
def test_two_processes(data, run_module, tmp_path, part):
    """A stage over packed rows, of one set and of shards: as many steps in both processes."""
    model = {**CONFIG["model_conf"], "stage": "alignment"}
    run_module(
        *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
        *arguments(data, tmp_path, model_conf=model),
        *("--train_data", data / part),
        *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
        launcher=("-m", "torch.distributed.run"),
    )
    found = weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in found.values())
    # Only the vocabulary learned: what a layer's norm starts with is what it is.
    assert all((value == 1).all() for name, value in found.items() if "norm" in name)
    if part == "shards":
        kept = sorted((tmp_path / "exp" / "data_position").iterdir())
        begins = [json.loads(path.read_text())["begins"] for path in kept]
        assert [path.stem for path in kept] == ["rank0", "rank1"]
        # Three steps an epoch, five of a shard (twenty clips, two a row, two rows a step).
        assert begins == [{"1": [0, 0], "2": [0, 3], "3": [1, 1]}] * 2


@pytest.mark.parametrize("world", [1, 2, 3])
def test_steps_are_as_many_in_all_processes_and_rows_are_shown_once(data, monkeypatch, world):
    from types import SimpleNamespace

    from uas_plugin.espnet import audiollm_task

    args = SimpleNamespace(
        train_data=str(data / "train"), vocab=str(data / "vocab.json"), seed=1, model_conf={},
        batch_conf={"row_tokens": 40, "rows": 2}, output_dir=str(data / "out"),
    )  # fmt: skip
    steps, shown = [], []
    for rank in range(world):
        monkeypatch.setattr(audiollm_task, "rank_and_world", lambda rank=rank: (rank, world))
        batches = list(audiollm_task.AudioLLMTask.build_batches(args, "train", 0))
        steps.append(len(batches))
        shown += [row.numpy().tobytes() for _, batch in batches for row in batch["tokens"]]
    assert len(set(steps)) == 1 and steps[0] > 0
    assert len(set(shown)) == len(shown)


def test_collect_stats(data, run_module, tmp_path):
    run_module(MODULE, *arguments(data, tmp_path), "--collect_stats", "true")
    names = (tmp_path / "exp" / "train" / "batch_keys").read_text().split()
    assert "tokens" in names


@pytest.mark.parametrize(
    "changes, wrong",
    [
        ({"model_conf": {"hiden_size": 16}}, "Did you mean 'hidden_size'"),
        ({"batch_conf": {"row_token": 64}}, "Did you mean 'row_tokens'"),
    ],
)
def test_an_unknown_setting_is_one_line(data, run_module, tmp_path, changes, wrong):
    done = run_module(MODULE, *arguments(data, tmp_path, **changes), check=False)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:")
    assert wrong in last
