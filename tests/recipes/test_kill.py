"""SIGKILL in a stage, then the same command again: the result is that of a run left alone.

Each test takes the finished smoke run, removes what one stage made, kills that stage at work and
starts it again. Stages before it are shared, so equal outputs here mean equal outputs at the end.
"""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def stage(number: int) -> tuple[str, ...]:
    return ("--stage", str(number), "--stop_stage", str(number))


def weights(folder: Path) -> dict[str, bytes]:
    """Bytes of every tensor of an exported model."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    assert tensors
    return {name: value.tobytes() for name, value in tensors.items()}


def rows(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines
    return lines


def test_data(smoke, tmp_path: Path) -> None:
    run = smoke.copy(tmp_path, "data")
    run.kill(lambda: len(list(run.data.glob("audio/**/*.flac"))) >= 3, *stage(1))
    assert not (run.data / "info.json").exists()
    run.run(*stage(1))
    for part in ("train", "dev", "test"):
        ours, theirs = (
            gzip.decompress((r.data / part / "cuts.jsonl.gz").read_bytes())
            .decode()
            .replace(str(r.base), "")
            for r in (run, smoke)
        )
        assert ours == theirs
    wavs = sorted(p.relative_to(smoke.data) for p in smoke.data.rglob("*.flac"))
    assert wavs == sorted(p.relative_to(run.data) for p in run.data.rglob("*.flac"))
    assert all((run.data / w).read_bytes() == (smoke.data / w).read_bytes() for w in wavs)


def test_tokenizer_training_and_dump(smoke, tmp_path: Path) -> None:
    gone = ("exp/mini/tokenizer", "dump/mini/tokenizer", "dump/mini/tokenizer_untrained")
    run = smoke.copy(tmp_path, *gone)
    run.kill(lambda: (run.exp / "tokenizer" / "checkpoint.pth").exists(), *stage(3))
    run.run(*stage(3))
    for tok in ("tokenizer", "tokenizer_untrained"):
        assert weights(run.exp / tok / "export") == weights(smoke.exp / tok / "export")

    def shards() -> list[Path]:
        return list(run.dump.glob("tokenizer*/*/shard.*/info.json"))

    run.kill(lambda: run.said(r"dump_shard .* done in"), *stage(4))
    kept = {path: path.stat().st_mtime_ns for path in shards()}
    assert 1 <= len(kept) < 5
    run.run(*stage(4))
    assert any(path.stat().st_mtime_ns == time for path, time in kept.items()), "all made again"
    for part in ("train", "dev", "test"):
        ours, theirs = (r.dump / "tokenizer" / part / "token" for r in (run, smoke))
        assert ours.read_text() == theirs.read_text()


def test_audiollm_training(smoke, tmp_path: Path) -> None:
    run = smoke.copy(tmp_path, "exp/mini/audiollm")
    run.kill(lambda: (run.exp / "audiollm" / "checkpoint.pth").exists(), *stage(7))
    run.run(*stage(7))
    log = (run.exp / "logs" / "audiollm_train.log").read_text()
    assert "resumed" in log
    assert weights(run.exp / "audiollm" / "export") == weights(smoke.exp / "audiollm" / "export")


def test_decoding_and_scoring(smoke, tmp_path: Path) -> None:
    gone = [
        f"exp/mini/{x}"
        for x in ("audiollm/decode", "tokenizer/decode", "codec/decode/tts", "score")
    ]
    run = smoke.copy(tmp_path, *gone)
    decoded = run.exp / "audiollm" / "decode" / "test"
    run.kill(lambda: bool(list(decoded.glob("*.jsonl"))), *stage(8))
    run.run(*stage(8))
    names = sorted(path.name for path in (smoke.exp / "audiollm/decode/test").glob("*.jsonl"))
    assert names == sorted(path.name for path in decoded.glob("*.jsonl"))
    for name in names:
        assert rows(decoded / name) == rows(smoke.exp / "audiollm/decode/test" / name)
    for path in (smoke.exp / "tokenizer" / "decode").glob("*.jsonl"):
        assert rows(run.exp / "tokenizer" / "decode" / path.name) == rows(path)

    run.kill(lambda: run.said("score started"), *stage(9))
    run.run(*stage(9))
    ours, theirs = (json.loads((r.exp / "score" / "scores.json").read_text()) for r in (run, smoke))
    for scores in (ours, theirs):
        scores.pop("provenance")
    assert ours == theirs


def test_a_live_run_is_not_disturbed_and_a_killed_one_leaves_no_lock(smoke, tmp_path: Path) -> None:
    run = smoke.copy(tmp_path, "exp/mini/text")
    refused: list[subprocess.CompletedProcess] = []

    def second_call() -> bool:
        if run.said("text started"):
            command = run.command(*stage(2))
            refused.append(subprocess.run(command, capture_output=True, text=True))
        return bool(refused)

    run.kill(second_call, *stage(2), "--force", "true")
    assert refused[0].returncode == 2 and "another run of" in refused[0].stderr
    run.run(*stage(2))
    ours, theirs = (r.exp / "text" / "bpe.model" for r in (run, smoke))
    assert ours.read_bytes() == theirs.read_bytes()
