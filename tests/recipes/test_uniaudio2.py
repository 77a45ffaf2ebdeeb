"""End to end: run.sh of egs/mini/uniaudio2 at smoke size, once; killed and run again."""

import json
import re
from pathlib import Path

import pytest

from uas_plugin.recipe.uniaudio2_stages import UNIAUDIO2_STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # eleven trainings, one after the other

PROMISED = {
    "data": ["info.json", *(f"{part}/cuts.jsonl.gz" for part in ("train", "dev", "test"))],
    "dump": [
        *(f"clips/{part}/{name}" for part in ("train", "dev", "test") for name in (
            "clips.jsonl", "reasoning.npy", "reconstruction.npy", "info.json")),
        "lm/special.json", "lm/base/train/info.json", "lm/auditory/train/info.json",
    ],
    "exp": [
        "text/bpe.model", "codec/start/encoders.safetensors", "codec/thinking/model.safetensors",
        "codec/refined/model.safetensors",
        "codec/export/model.safetensors", "lm/stage1/config.yaml", "lm/stage2/config.yaml",
        "lm/stage3/config.yaml", "lm/stage4.0/export/model.safetensors",
        "lm/longer.0/export/bpe.model", "decode/stage4.0/few_shot.jsonl",
        "decode/longer.0/few_shot.jsonl", "decode/tasks/ASR.none.jsonl",
        "decode/tasks/ASR.shuffled.jsonl", "decode/tasks/audio_caption.no_audio.jsonl",
        "decode/tasks/audio_understanding.none.jsonl", "decode/tasks/TTS.none.jsonl",
        "decode/tasks/TTA.none.jsonl", "decode/tasks/speech_denoise.none.jsonl",
        "score/scores.json", "report/report.html", "../RESULTS.md",
    ],
}  # fmt: skip


def test_everything_promised_is_there(uniaudio2) -> None:
    for part, names in PROMISED.items():
        missing = [name for name in names if not (getattr(uniaudio2, part) / name).exists()]
        assert not missing, f"{part}: {missing}"
    assert not [path for path in uniaudio2.base.rglob("*.tmp*") if path.is_file()]
    for stage in UNIAUDIO2_STAGES:
        for rule in stage.rules:
            assert re.search(rf"stage +{stage.number}  {rule}.* done in", uniaudio2.output), rule
            assert list((uniaudio2.exp / "benchmarks").glob(f"{rule}*.tsv")), rule


def test_scores_results_and_report(uniaudio2) -> None:
    scores = json.loads((uniaudio2.exp / "score" / "scores.json").read_text())
    figures = {figure["id"]: figure for figure in scores["figures"]}
    assert {"lm.asr_en", "tts.en", "lm.qa", "denoise.en", "few_shot_gain.held_out"} <= set(figures)
    assert figures["lm.asr_en"]["baselines"].keys() == {"shuffled", "no_audio"}
    assert len(scores["held_out"]) == 2
    results = (uniaudio2.exp / ".." / "RESULTS.md").read_text()
    assert "./run.sh size=smoke" in results and "Few-shot classification of sounds" in results
    report = (uniaudio2.exp / "report" / "report.html").read_text()
    assert report.count("<audio") >= 2 and "Unified LM, stage 3" in report


def test_a_second_run_does_nothing(uniaudio2) -> None:
    assert "nothing to do" in uniaudio2.run()


def weights(folder: Path) -> dict[str, bytes]:
    """Bytes of every tensor of an exported model."""
    from safetensors.numpy import load_file

    return {k: v.tobytes() for k, v in load_file(folder / "model.safetensors").items()}


def test_killed_trainings_end_with_the_same_weights(uniaudio2, tmp_path: Path) -> None:
    run = uniaudio2.copy(tmp_path, "exp/mini/codec/reconstruction", "exp/mini/codec/export",
                         "exp/mini/lm/stage4.0")  # fmt: skip
    words = ("--stage", "4", "--stop_stage", "4")
    run.kill(lambda: (run.exp / "codec/reconstruction/checkpoint.pth").exists(), *words)
    run.run(*words)
    assert weights(run.exp / "codec/export") == weights(uniaudio2.exp / "codec/export")
    words = ("--stage", "7", "--stop_stage", "7")
    run.kill(lambda: (run.exp / "lm/stage4.0/checkpoint.pth").exists(), *words)
    run.run(*words)
    ours, theirs = (r.exp / "lm/stage4.0/export" for r in (run, uniaudio2))
    assert weights(ours) == weights(theirs)
