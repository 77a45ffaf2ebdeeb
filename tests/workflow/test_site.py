"""What a cluster is told apart by: the site file, and the profiles that read it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from uas_plugin.errors import UASError
from uas_plugin.recipe.options import parse
from uas_plugin.recipe.run import _profile, _site_environment
from uas_plugin.recipe.site import TRAININGS, Site

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "workflow" / "profiles"


def site_file(folder: Path, **values: object) -> dict[str, str]:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(values))
    return {"UAS_SITE": str(path)}


def test_without_a_file_the_clusters_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site = Site.load({"PATH": "/bin", "UAS_SLURM_DIR": "of local/slurm"})
    assert set(site.defaults()) == {"mem_mb", "runtime", "disk_mb"}
    assert site.partition_file() is None and site.gpus(4) == {"gpu": 4} and site.gpus(0) == {}


def test_the_example_is_a_site(tmp_path):
    site = Site.load({"UAS_SITE": str(PROFILES / "site.example.yaml")})
    assert site.account == "abc123" and site.partitions["gpu"]["max_gpu"] == 16
    assert site.partition_file() == str(PROFILES / "site.example.yaml")
    assert site.gpus(2) == {"gpu": 2, "gpu_model": "h100"}


def test_a_variable_counts_more_than_the_file(tmp_path):
    environ = site_file(tmp_path, account="a", jobs=3, train_runtime=60)
    site = Site.load({**environ, "UAS_SLURM_ACCOUNT": "b", "UAS_SLURM_JOBS": "7"})
    assert (site.account, site.jobs) == ("b", 7)
    assert site.defaults()["slurm_account"] == "'b'"
    assert site.one_node()["codec_train"] == {"tasks_per_gpu": 0, "runtime": 60}


@pytest.mark.parametrize(
    "values, environ, expected",
    [
        ({"acount": "a"}, {}, "unknown key 'acount' in .* Did you mean 'account'"),
        ({}, {"UAS_SLURM_PARTITON": "x"}, "unknown setting UAS_SLURM_PARTITON. Did you mean 'part"),
        ({"jobs": "many"}, {}, "jobs must be a whole number, not 'many'"),
        ({"partitions": ["gpu"]}, {}, "partitions must be a mapping: partition -> limits"),
        ({"account": ["a"]}, {}, "account must be one word"),
        ({"status_command": "qstat"}, {}, "status_command is sacct or squeue, not 'qstat'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, values, environ, expected):
    with pytest.raises(UASError, match=expected) as caught:
        Site.load({**site_file(tmp_path, **values), **environ})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UASError, match="there is no such file"):
        Site.load({"UAS_SITE": str(tmp_path / "none.yaml")})
    (tmp_path / "list.yaml").write_text("- account")
    with pytest.raises(UASError, match="must be a mapping"):
        Site.load({"UAS_SITE": str(tmp_path / "list.yaml")})
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UASError, match="is no YAML"):
        Site.load({"UAS_SITE": str(tmp_path / "bad.yaml")})


def test_several_nodes_count_gpus_a_node():
    shape = Site(gpu_type="h100").several_nodes()["audiollm_train"]
    assert (shape["nodes"], shape["tasks"], shape["mpi"]) == (2, 2, "srun")
    assert shape["gres"] == "'gpu:h100:8'" and shape["gpu"] == 0 and shape["cpus_per_task"] == 64
    without = Site(gpus_per_node=0, cpus_per_gpu=2).several_nodes()["codec_train"]
    assert "gres" not in without and without["cpus_per_task"] == 2
    with pytest.raises(UASError, match="the profile slurm is for"):
        Site(num_nodes=1).several_nodes()


def test_trainings_are_the_rules_that_uas_torchrun_starts():
    started = set()
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^(?=rule )", path.read_text(), flags=re.M)[1:]:
            if "training {params.shape} " in block:
                started.add(block.split(":")[0].removeprefix("rule "))
                assert "nodes=1" in block and "**gpus(RUN.gpus)" in block
    assert started == set(TRAININGS)


def test_the_profiles_of_slurm_differ_in_the_trainings_alone():
    def settings(name: str) -> dict[str, str]:
        lines = (PROFILES / name / "config.v9+.yaml").read_text().splitlines()
        pairs = (
            line.split("  #")[0].split(": ", 1) for line in lines if re.match(r"[\w-]+: ", line)
        )
        return {key: value.strip() for key, value in pairs}

    one, several = settings("slurm"), settings("slurm_multinode")
    assert len(one) > 10 and one.keys() == several.keys()
    assert {key for key in one if one[key] != several[key]} == {"set-resources"}


def dry_run(*words: str, exp: Path, **environ: str) -> str:
    """Rules with their resources and commands, through a profile."""
    folders = [f"{name}dir={exp / name}" for name in ("exp", "data", "dump")]
    # Not the site file of whoever runs the tests.
    environ = {"UAS_SITE": os.devnull, **environ}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-p", "--nolock", "--config", *folders, *words],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def shape(words):
    """A pattern of the call of a training of this shape; its job's runtime is the rule's."""
    return f"training {words} --job_runtime_min \\d+ "


def test_gpus_go_to_the_rules_that_use_them(tmp_path):
    environ = site_file(tmp_path, account="abc", partition="p", gpu_type="h100")
    gpus = "overrides=trainer.ngpu=4"
    text = dry_run("size=smoke", gpus, "--profile", "slurm", exp=tmp_path, **environ)
    blocks = re.findall(r"^rule (\w+):\n(.*?)\nShell command: ([^\n]*)", text, re.M | re.S)
    assert len(blocks) > 20, text
    asking = {}
    for rule, resources, command in blocks:
        assert "slurm_account=abc" in resources and "slurm_partition=p" in resources
        if found := re.search(r"\bgpu=(\d+), ", resources):
            asking[rule] = int(found.group(1))
            assert "gpu_model=h100" in resources
        assert ("--device $DEVICE" in command) == (asking.get(rule) == 1)
    assert asking == {
        "tokenizer_align": 4, "tokenizer_train": 4, "codec_train": 4, "audiollm_train": 4,
        "dump_shard": 1, "codec_decode": 1, "codec_decode_spoken": 1, "audiollm_decode": 1,
    }  # fmt: skip
    assert re.search(shape("--nodes 1 --gpus_per_node 4") + "audiollm_train --config", text)


def test_the_same_rule_on_cpus_and_on_two_nodes(tmp_path):
    text = dry_run("size=smoke", "--profile", "slurm", exp=tmp_path / "cpu")
    assert not re.search(r"\b(?:gpu|gpu_model|gres)=", text)
    assert re.search(shape("--nodes 1 --gpus_per_node 0") + "audiollm_train --config", text)
    several = str(PROFILES / "slurm_multinode")
    text = dry_run(
        "size=smoke", "--profile", several, exp=tmp_path / "nodes", UAS_SLURM_GPU_TYPE="a"
    )
    several = shape("--nodes 2 --gpus_per_node 8 --cpus_per_node 64 --gpu_type a")
    assert re.search(several + "audiollm_train --config", text)
    assert re.search(several + "codec_train", text)


def test_a_mistake_in_the_site_stops_snakemake_with_its_line(tmp_path):
    text = dry_run("--profile", "slurm", exp=tmp_path, **site_file(tmp_path, acount="a"))
    assert "error: unknown key 'acount'" in text and "Traceback" not in text


def test_num_nodes_of_run_sh_chooses_the_profile(monkeypatch):
    options = parse(["--num_nodes", "2", "--ngpu", "8"], ())
    with pytest.raises(UASError, match="--num_nodes needs Slurm: cmd_backend=slurm"):
        _profile(options)
    monkeypatch.setenv("UAS_PROFILE", "workflow/profiles/slurm")
    assert _profile(options) == "workflow/profiles/slurm_multinode"
    assert _site_environment(options) == {
        "UAS_SLURM_NUM_NODES": "2", "UAS_SLURM_GPUS_PER_NODE": "8",
    }  # fmt: skip
    assert _profile(parse([], ())) == "workflow/profiles/slurm"
    assert _site_environment(parse([], ())) == {}
