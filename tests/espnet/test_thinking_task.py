"""Audio-thinking and its refinement as real ESPnet trainings, all in one process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from uas_plugin.audiollm.options import from_section
from uas_plugin.audiollm.stages import LoraOptions
from uas_plugin.codec.reasoning import folders
from uas_plugin.codec.reasoning.questions import WORDINGS, check_kinds, examples_of
from uas_plugin.codec.reasoning.refinement import RefinementOptions
from uas_plugin.codec.reasoning.training import ReconstructionOptions
from uas_plugin.errors import UASError
from uas_plugin.espnet.thinking_judge import make_judge

THINKING = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "num_iters_per_epoch": 2,
    "keep_nbest_models": 2,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-2},
    "phase": "thinking",
    "model_conf": {
        "llm": {
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 512,
        }
    },
    "batch_conf": {"size": 2, "seconds": 0.8, "valid_clips": 2, "kinds": ["transcription"]},
}
REFINEMENT = THINKING | {
    "phase": "refinement",
    "model_conf": {"group": 3, "steps": 4, "judge": "words", "question": "What is said?"},
}
CODE = """
import json, sys
from uas_plugin.espnet.reasoning_codec_task import ReasoningCodecTask
for arguments in json.loads(sys.argv[1]):
    ReasoningCodecTask.main(cmd=arguments)
"""


@pytest.fixture(scope="module")
def trained(tiny_codec_folder, corpus, run_module, tmp_path_factory):
    """``NAME/whole``: two epochs at once; ``NAME/parts``: the second after a stop."""
    root = tmp_path_factory.mktemp("thinking")
    calls = []
    for name, conf in (("thinking", THINKING), ("refinement", REFINEMENT)):
        for run, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
            path = root / f"{name}_{run}_{epochs}.yaml"
            path.write_text(yaml.safe_dump(conf | {"max_epoch": epochs}))
            calls.append([
                "--config", path, "--train_cuts", corpus / "cuts.jsonl.gz", "--valid_cuts",
                corpus / "cuts.jsonl.gz", "--codec", tiny_codec_folder, "--output_dir",
                root / name / run, "--resume", "true",
                *(("--text_tokenizer", corpus) if name == "thinking"
                  else ("--thinking", root / "thinking/whole")),
            ])  # fmt: skip
    run_module(CODE, json.dumps([[str(a) for a in call] for call in calls]), launcher=("-c",))
    return root


def weights(folder):
    return torch.load(folder / "2epoch.pth", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["thinking", "refinement"])
def test_a_phase_resumes_exactly_and_moves_the_reasoning_branch(
    phase, trained, tiny_codec_folder, tmp_path
):
    whole, parts = (weights(trained / phase / run) for run in ("whole", "parts"))
    learned = "training_model." + ("policy." if phase == "refinement" else "")
    parts_of_it = tuple(f"{learned}{part}." for part in ("branch", "llm", "to_llm"))
    assert all(name.startswith(parts_of_it) for name in whole)  # nothing that is frozen
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=0, rtol=0)
    folders.export(trained / phase / "whole", tiny_codec_folder, tmp_path / "export")
    before, after = (
        folders.load_model(f).state_dict() for f in (tiny_codec_folder, tmp_path / "export")
    )
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and all(name.startswith("audio_thinking.") for name in moved)
    assert "audio_thinking.cls_token" in moved
    (ids,) = folders.load_encoding(tmp_path / "export").encode([(np.zeros(9600), 24_000)])
    assert ids.reasoning.shape == (2, 8)


@pytest.mark.slow
def test_refinement_begins_with_the_thinking_and_says_its_reward(trained):
    log = (trained / "refinement/whole/config.yaml").read_text()
    assert yaml.safe_load(log)["thinking"] == str(trained / "thinking/whole")
    state = torch.load(trained / "refinement/whole/checkpoint.pth", weights_only=False)
    stats = state["reporter"]["stats"][2]["train"]
    assert {"reward", "informative", "length"} <= set(stats)


def test_published_configurations_state_known_keys():
    """Keys of the model and the batches; ESPnet's own are its."""
    published = Path(folders.__file__).parent / "published"
    confs = {path.stem: yaml.safe_load(path.read_text()) for path in published.glob("*.yaml")}
    assert {conf["phase"] for conf in confs.values()} == {*confs} == {
        "thinking", "refinement", "reconstruction",
    }  # fmt: skip
    assert ReconstructionOptions(**confs["reconstruction"]["model_conf"]) == ReconstructionOptions()
    thinking, refinement = (confs[name]["model_conf"] for name in ("thinking", "refinement"))
    assert from_section(LoraOptions, thinking["lora"], "lora").rank == 32
    make_judge(refinement.pop("judge"))
    question = refinement.pop("question")
    assert question in WORDINGS["analysis"]
    assert RefinementOptions(**refinement).group == 8
    check_kinds(confs["refinement"]["batch_conf"]["kinds"])


def test_questions_about_a_cut():
    from lhotse import MonoCut, SupervisionSegment

    said = SupervisionSegment("a", "a", 0.0, 1.0, text="red", custom={"labels": {"mood": "calm"}})
    pair = {"question": "Who?", "answer": "a bird"}
    cut = MonoCut("a", 0.0, 1.0, 0, supervisions=[said], custom={"qa": [pair], "caption": ""})
    found = list(examples_of(cut, [*WORDINGS], lambda count: count - 1))
    assert found == [
        ("transcription", "Give the spoken text.", "red"),
        ("label", "What is the mood in this recording?", "calm"),
        ("qa", "Who?", "a bird"),
    ]
    assert [e.kind for e in examples_of(cut, ["qa"], lambda count: 0)] == ["qa"]
    heard = SupervisionSegment("b", "b", 0.0, 1.0, custom={"labels": {"sound": "rain"}})
    wordless = MonoCut("b", 0.0, 1.0, 0, supervisions=[heard])  # its class stands for a caption
    assert [e.answer for e in examples_of(wordless, ["caption"], lambda count: 0)] == ["rain"]
    with pytest.raises(UASError, match="unknown kind of question: songs"):
        check_kinds(["qa", "songs"])


def test_judges():
    assert make_judge("exact")("a  b", "a b") == 1.0
    assert make_judge("words")("red green", "red blue") == 0.5
    assert make_judge("math:hypot")(3.0, 4.0) == 5.0  # any function that can be imported
    for conf, message in (
        ("likes", "give words, exact, module:function"),
        ("no.such.module:f", "cannot be imported"),
        ("math:pi", "is no function"),
        ({"model": "x"}, "needs a server"),
        ({"url": "http://x/v1", "model": "m", "hue": 1}, "unknown key 'hue'"),
    ):
        with pytest.raises(UASError, match=message):
            make_judge(conf)
