"""End to end: run.sh size=smoke makes everything it promises, once."""

import json
import re
import time
from pathlib import Path

import pytest

from uas_plugin.atomic import read_jsonl
from uas_plugin.recipe.stages import STAGES
from uas_plugin.recipe.status import find_run, read_status

pytestmark = pytest.mark.slow

PROMISED = {
    "data": ["info.json", *(f"{s}/{f}" for s in ("train", "dev", "test") for f in (
        "cuts.jsonl.gz", "wav.scp", "text", "utt2spk", "spk2utt", "utt2num_samples",
        "rejected.jsonl"))],
    "dump": [*(f"tokenizer/{s}/{f}" for s in ("train", "dev", "test") for f in (
        "cuts.jsonl.gz", "token", "token_length", "info.json")),
        "tokenizer_untrained/test/token", "lm/vocab.json", "lm/info.json"],
    "exp": [
        "text/bpe.model", "text/tokens.txt",
        "tokenizer/config.yaml", "tokenizer/valid.loss.ave.pth", "tokenizer/export/config.json",
        "tokenizer/export/model.safetensors", "tokenizer_untrained/export/model.safetensors",
        "codec/config.yaml", "codec/export/config.json", "codec/export/model.safetensors",
        "codec/decode/test/metrics.jsonl", "codec/decode/test/wav.scp", "codec/decode/tts/wav.scp",
        "audiollm/config.yaml", "audiollm/export/config.json", "audiollm/export/vocab.json",
        "audiollm/decode/test/uas.none.jsonl", "audiollm/decode/test/uas.shuffled.jsonl",
        "audiollm/decode/test/uas.no_audio.jsonl", "audiollm/decode/test/asr.none.jsonl",
        "audiollm/decode/test/tts.none.jsonl", "audiollm/decode/test/qa.none.jsonl",
        "tokenizer/decode/test.jsonl", "tokenizer/decode/test_shuffled.jsonl",
        "tokenizer/decode/tts.jsonl", "tokenizer/decode/recon.jsonl",
        "score/scores.json", "evaluate/info.json", "report/report.html", "../RESULTS.md",
    ],
}  # fmt: skip


def test_everything_promised_is_there(smoke) -> None:
    for part, names in PROMISED.items():
        missing = [name for name in names if not (getattr(smoke, part) / name).exists()]
        assert not missing, f"{part}: {missing}"
    empty = [n for n in PROMISED["exp"] if (smoke.exp / n).stat().st_size == 0]
    assert not empty
    leftovers = [p for p in smoke.base.rglob("*.tmp*") if p.is_file()]
    assert not leftovers


def test_every_rule_left_a_log_and_a_benchmark(smoke) -> None:
    for stage in STAGES:
        for rule in stage.rules:
            if rule.startswith(("ablation", "lm_study")):
                continue
            folder = "dump/" if rule.startswith("dump") else ""
            pattern = f"{folder}tokenizer*" if folder else rule
            pattern += "*" if rule == "codec_decode_spoken" else ""  # a log per task
            assert list((smoke.exp / "logs").glob(f"{pattern}.log")), rule
            for path in (smoke.exp / "benchmarks").glob(f"{pattern}.tsv"):
                header, values = path.read_text().splitlines()[:2]
                assert header.startswith("s\th:m:s\tmax_rss") and float(values.split("\t")[0]) > 0


def test_status_says_that_all_is_done(smoke) -> None:
    status = read_status(find_run(smoke.exp))
    assert not status.alive and status.last_error is None and status.progress == []
    assert {stage.state for stage in status.stages} == {"done"}
    assert status.shards and all(s.done == s.total and not s.failed for s in status.shards)


def test_tokens_are_those_of_the_manifest(smoke) -> None:
    for name in ("train", "dev", "test"):
        cuts = list(read_jsonl(smoke.data / name / "cuts.jsonl.gz"))
        lines = (smoke.dump / "tokenizer" / name / "token").read_text().splitlines()
        info = json.loads((smoke.dump / "tokenizer" / name / "info.json").read_text())
        assert [line.split()[0] for line in lines] == [cut["id"] for cut in cuts]
        ids = [int(i) for line in lines for i in line.split()[1:]]
        assert len(ids) == info["num_tokens"] and max(ids) < info["codebook_size"]
        seconds = sum(cut["duration"] for cut in cuts)
        assert len(ids) == pytest.approx(seconds * info["frame_rate"], abs=len(cuts) + 1)


def test_progress_names_stages_logs_and_times(smoke) -> None:
    for stage in STAGES:
        rules = [rule for rule in stage.rules if not rule.startswith(("ablation", "lm_study"))]
        for rule in rules:
            assert re.search(rf"stage +{stage.number}  {rule}.* started +\(log: ", smoke.output)
            assert re.search(rf"stage +{stage.number}  {rule}.* done in \d+", smoke.output)
    assert "mini: finished in" in smoke.output and "report.html" in smoke.output


def times(folder: Path) -> dict[str, int]:
    """Modification times of all files but logs, locks and run.json."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and "logs" not in path.parts and not path.name.startswith(".")
    }


def test_a_second_run_does_nothing(smoke) -> None:
    before = times(smoke.base)
    start = time.monotonic()
    assert "nothing to do" in smoke.run()
    elapsed = time.monotonic() - start
    assert times(smoke.base) == before
    # 15 s on an idle machine; tests may share it.
    assert elapsed < 45


def test_a_scoring_option_repeats_scoring_and_the_report_only(smoke, tmp_path: Path) -> None:
    run = smoke.copy(tmp_path)
    before = times(run.base)
    output = run.run("score.bootstrap_resamples=21")
    started = re.findall(r"stage +\d+  (\w+).* started", output)
    assert started == ["score", "report"]
    changed = {name for name, value in times(run.base).items() if before.get(name) != value}
    changed = {n for n in changed if "/benchmarks/" not in n and "/conf/" not in n}
    allowed = ("exp/mini/score/", "exp/mini/report/", "exp/RESULTS.md")
    assert changed and all(name.startswith(allowed) for name in changed), changed


def test_a_stage_takes_earlier_ones_as_they_are(smoke, tmp_path: Path) -> None:
    run = smoke.copy(tmp_path)
    words = ("--stage", "9", "--stop_stage", "9", "tokenizer.train.max_epoch=9")
    assert "nothing to do" in run.run(*words)
    output = run.run(*words, "--force", "true")
    again = re.findall(r"stage +\d+  (\w+).* started", output)
    assert sorted(again) == ["benchmarks", "questions", "score", "score_schema"]


def test_a_failed_rule_shows_the_end_of_its_log(smoke, tmp_path: Path) -> None:
    import subprocess

    run = smoke.copy(tmp_path, "exp/mini/score")
    path = run.exp / "audiollm" / "decode" / "test" / "uas.none.jsonl"
    path.write_text("not JSON\n")
    command = run.command("--stage", "9", "--stop_stage", "9")
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    # Two rules read the file; which of them fails first is Snakemake's choice.
    assert re.search(r"stage  9  score(_schema)? FAILED; the end of", result.stderr)
    assert "error: stopped after" in result.stderr.splitlines()[-1]


def test_report_of_snakemake(smoke, tmp_path: Path) -> None:
    import subprocess
    import sys

    report = tmp_path / "report.html"
    command = [sys.executable, "-m", "snakemake", "--report", str(report), "--nolock"]
    command += ["--config", f"conf={smoke.exp / 'conf'}"]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert report.stat().st_size > 10_000
