"""The recipe on a real Slurm: the whole of it, two nodes, and what happens when nodes go away.

The undisturbed run that all are compared with is the smoke run of tests/recipes, on this machine.
"""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from ..recipes.conftest import unique
from .conftest import SCRIPT, Cluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

MADE = (
    "dump/mini/tokenizer/*/token",
    "exp/mini/*/export/model.safetensors",
    "exp/mini/audiollm/decode/test/*.jsonl",
    "exp/mini/tokenizer/decode/*.jsonl",
)
"""Files that are promised to be the same whenever and wherever they are made."""


def same_files(made: Path, expected: Path, *patterns: str) -> int:
    """Compare the files of ``expected`` that fit the patterns; returns how many there are."""
    names = [p.relative_to(expected) for pattern in patterns for p in expected.glob(pattern)]
    different = [str(n) for n in names if (made / n).read_bytes() != (expected / n).read_bytes()]
    assert not different
    return len(names)


def test_the_whole_recipe_is_what_it_is_on_one_machine(clone, smoke, tmp_path):
    """`snakemake --profile slurm` in the root of a clone."""
    log = tmp_path / "log"
    run = unique(tmp_path)
    folders = [f"{name}dir={run / name}" for name in ("exp", "data", "dump")]
    command = ("snakemake", "--profile", "slurm", "--config", "size=smoke", *folders)
    output = clone.finish(clone.start(*command, log=log), log, limit=2300)
    assert "Using profile slurm" in output
    assert same_files(run, smoke.base, *MADE) >= 15
    scores = [json.loads((b / "exp/mini/score/scores.json").read_text()) for b in (run, smoke.base)]
    assert scores[0]["figures"] == scores[1]["figures"]
    # Token dumps went as one array; steps that are shorter than a job's start were no jobs.
    tasks = re.findall(r"Submitted array job with Snakemake IDs ([\d,]+)", output)
    assert max(len(ids.split(",")) for ids in tasks) >= 3
    jobs = re.findall(r"submitted with SLURM jobid (\d+)", output)
    assert 10 <= len(jobs) <= 18
    assert not re.search(r"rule_(?:score|report|dump_merge|\w+_export)/", output)


def test_a_training_runs_on_two_nodes(clone, cluster, smoke, tmp_path):
    """The rule that would start two times eight GPUs starts two processes with gloo."""
    run, log = smoke.copy(tmp_path, "exp/mini/codec"), tmp_path / "log"
    words = ("--stage", "5", "--stop_stage", "5", "--num_nodes", "2")
    clone.finish(clone.run_sh(run, *words, log=log), log)
    assert (run.exp / "codec" / "done").exists()
    config = yaml.safe_load((run.exp / "codec" / "config.yaml").read_text())
    assert config["distributed"] and config["dist_backend"] == "gloo" and config["ngpu"] == 0
    training = (run.exp / "logs" / "codec_train.log").read_text()
    assert len(re.findall(r"/codec_train\.py --config", training)) == 2, "one process a node"
    job = re.search(r"SLURM jobid (\d+)", (run.exp / "logs" / "snakemake.log").read_text())
    assert "NumNodes=2 NumCPUs=" in cluster.slurm("scontrol", "show", "job", job.group(1))


def test_a_node_dies_while_tokens_are_dumped(clone, cluster, smoke, tmp_path):
    run = smoke.copy(tmp_path, "dump/mini/tokenizer", "dump/mini/tokenizer_untrained")
    log, logs = tmp_path / "log", run.exp / "logs" / "dump"
    for path in logs.glob("*.0000.log"):
        path.unlink()
    process = clone.run_sh(run, "--stage", "4", "--stop_stage", "4", log=log)
    wait_until(lambda: bool(list(logs.glob("*.0000.log"))), "a dump", log)
    lose_a_node(cluster, process, log)
    assert same_files(run.base, smoke.base, "dump/mini/tokenizer*/*/token*") >= 8


def lose_a_node(cluster, process, log: Path) -> None:
    """Cut the power of a node that works, and let the run end all the same."""
    wait_until(lambda: bool(cluster.busy_nodes()), "a running job", log)
    victim = cluster.busy_nodes()[0]
    before = cluster.lost_jobs(victim)
    cluster.call("kill-node", victim)
    try:
        cluster.finish(process, log)
        assert cluster.lost_jobs(victim) > before, "its jobs were not put back into the queue"
    finally:
        cluster.call("start-node", victim)


def training_process(run) -> int | None:
    """The process of this run's codec training."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if str(run.exp / "codec").encode() in words and b"uas_plugin.bin.codec_train" in words:
            return int(entry.parent.name)
    return None


def test_a_training_is_preempted_and_then_its_node_dies(clone, cluster, smoke, tmp_path):
    """Its weights are those of a training that nothing happened to."""
    longer = ("codec.train.max_epoch=6", "codec.train.num_iters_per_epoch=1")
    words = ("--stage", "5", "--stop_stage", "5", "trainer.max_steps=6", *longer)
    plain = smoke.copy(tmp_path, "exp/mini/codec")
    log = tmp_path / "plain"
    clone.finish(clone.run_sh(plain, *words, log=log, profile="local"), log)

    run, log = smoke.copy(tmp_path, "exp/mini/codec"), tmp_path / "log"
    process = clone.run_sh(run, *words, log=log)
    wait_until((run.exp / "codec" / "checkpoint.pth").exists, "a checkpoint", log)
    pid = training_process(run)
    os.kill(pid, signal.SIGSTOP)  # what comes next hits it here, however fast it is
    assert not (run.exp / "codec" / "done").exists()
    everything = ("--exclusive", "-N", "3", "-o", "/dev/null", "--wrap", "true")
    # SIGTERM at once; SIGKILL after the partition's GraceTime where the process does not end.
    cluster.slurm("sbatch", "-p", "urgent", *everything)
    resumed = run.exp / "logs" / "codec_train.log"

    def goes_on() -> bool:
        cluster.start_at_once()
        other = training_process(run)
        return other not in (None, pid) and "training was resumed" in resumed.read_text()

    wait_until(goes_on, "the training in another job", log)
    lose_a_node(cluster, process, log)
    assert same_files(run.base, plain.base, "exp/mini/codec/export/model.safetensors") == 1


def test_accounting_remembers_jobs(cluster, tmp_path):
    """A second cluster, with slurmdbd on a database of its own."""
    other = Cluster(Path(f"{cluster.folder}-dbd"))
    try:
        start = [str(SCRIPT), "up", "--accounting", "--nodes", "1", "--dir", str(other.folder)]
        started = subprocess.run(start, capture_output=True, text=True)
        if started.returncode:
            pytest.skip(f"no accounting here: {started.stderr.strip().splitlines()[-1]}")
        other.environ = {**cluster.environ, "PATH": f"{other.folder}/bin:{os.environ['PATH']}"}
        other.slurm("sbatch", "--wait", "-J", "remembered", "-o", "/dev/null", "--wrap", "true")
        states: list[str] = []

        def known() -> bool:
            states[:] = other.slurm("sacct", "-X", "-n", "-P", "-o", "JobName,State").split()
            return "remembered|COMPLETED" in states

        log = tmp_path / "log"
        log.touch()
        wait_until(known, f"the job in {states}", log, limit=60)
    finally:
        other.call("down")
