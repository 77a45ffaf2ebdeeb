"""`uas torchrun`: what it becomes on one machine, and on the nodes of a Slurm step."""

import shlex

import pytest

from uas_plugin.errors import UASError
from uas_plugin.recipe.launch import (
    FIRST_PORT,
    PORTS,
    Rendezvous,
    command,
    first_host,
    get_parser,
    main,
    node_address,
    rendezvous,
    shape_of,
)

STEP = {
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NODEID": "1",
}  # fmt: skip


def become(line: str, environ=None) -> str:
    words = shlex.split(line)
    return shlex.join(command(get_parser().parse_args(words), words, environ or {})[1:])


@pytest.mark.parametrize(
    "nodelist, first",
    [
        ("node1", "node1"),
        ("gpu[03-04,07],cpu1", "gpu03"),
        ("a,b", "a"),
        ("rack[0-1]node[2-3]", "rack0node2"),
        ("n-1-[9,11]-ib,x", "n-1-9-ib"),
    ],
)
def test_first_host(nodelist, first):
    assert first_host(nodelist) == first


def test_one_process_is_the_training_itself():
    assert become("codec_train --config c") == "-m uas_plugin.bin.codec_train --config c"
    # One GPU too: ESPnet's own options say so.
    assert become("--gpus_per_node 1 codec_train") == "-m uas_plugin.bin.codec_train"


def test_one_node_uses_all_its_gpus():
    assert become("--gpus_per_node 8 codec_train --config c --ngpu 8") == (
        "-m uas_plugin.espnet.torchrun --standalone --nproc-per-node 8"
        " -m uas_plugin.bin.codec_train --config c --ngpu 8"
        " --ngpu 1 --multiprocessing_distributed false --dist_backend nccl"
    )
    assert "--nproc-per-node 2" in become("--nproc_per_node 2 codec_train")


def test_in_a_job_of_one_node_its_step_says_nothing():
    assert "--standalone" in become("--gpus_per_node 2 codec_train", STEP)


def test_a_job_of_slurm_tells_its_training_when_it_ends():
    line = "--job_runtime_min 90 codec_train --config c"
    assert become(line) == "-m uas_plugin.bin.codec_train --config c"
    timed = become(line, {"SLURM_JOB_ID": "3"})
    assert timed == "-m uas_plugin.bin.codec_train --config c --max_runtime_min 90.0"


def test_several_nodes_start_once_a_node_and_meet(tmp_path, monkeypatch):
    srun = tmp_path / "srun"
    srun.write_text("")
    srun.chmod(0o755)
    line = "--nodes 2 --gpus_per_node 8 --cpus_per_node 64 --gpu_type h100 codec_train --config c"
    monkeypatch.setenv("PATH", str(tmp_path))
    outside = become(line)
    assert outside.startswith("--nodes 2 --ntasks 2 --ntasks-per-node 1 --cpus-per-task 64")
    assert "--gres=gpu:h100:8 --kill-on-bad-exit=1" in outside
    assert outside.endswith(f"-m uas_plugin.cli torchrun {line}")
    inside = become(line, STEP)
    port = FIRST_PORT + 77 * 16 % PORTS
    assert inside.startswith(
        "-m uas_plugin.espnet.torchrun --nnodes 2 --node-rank 1"
        f" --master-addr localhost --master-port {port} --nproc-per-node 8 -m"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(UASError, match="2 nodes need Slurm, and there is no srun"):
        become(line)


def test_all_nodes_come_to_one_place_and_steps_to_different_ones():
    ranks = [rendezvous({**STEP, "SLURM_NODEID": str(rank)}) for rank in (0, 1)]
    assert [r.node_rank for r in ranks] == [0, 1]
    assert len({(r.host, r.port) for r in ranks}) == 1
    other = rendezvous({**STEP, "SLURM_STEP_ID": "1"})
    assert other.port != ranks[0].port
    named = rendezvous({**STEP, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"})
    assert (named.host, named.port) == ("10.0.0.1", 29500)
    assert rendezvous({}) == Rendezvous()


def test_a_step_needs_one_task_a_node():
    with pytest.raises(UASError, match="has 16 tasks on 2 nodes: start one a node"):
        rendezvous({**STEP, "SLURM_STEP_NUM_TASKS": "16"})


def test_a_node_without_a_name_here_has_the_address_that_slurm_knows(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho NodeName=$3 NodeAddr=10.1.2.3 NodeHostName=x\n")
    scontrol.chmod(0o755)
    assert node_address("localhost") == "localhost"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert node_address("no-such-node.invalid") == "10.1.2.3"
    scontrol.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UASError, match="set MASTER_ADDR to one"):
        node_address("no-such-node.invalid")


@pytest.mark.parametrize(
    "resources, shape",
    [
        ({"nodes": 1}, "--nodes 1 --gpus_per_node 0"),
        ({"nodes": 1, "gpu": 4, "gpu_model": "a"}, "--nodes 1 --gpus_per_node 4"),
        (
            {"nodes": 2, "gres": "gpu:h100:8", "gpu": 0, "cpus_per_task": 64},
            "--nodes 2 --gpus_per_node 8 --cpus_per_node 64 --gpu_type h100",
        ),
        ({"nodes": 3, "gres": "nvme:1,gpu:2"}, "--nodes 3 --gpus_per_node 2 --cpus_per_node 5"),
        ({"runtime": 90}, "--nodes 1 --gpus_per_node 0 --job_runtime_min 90"),
    ],
)
def test_shape_of_a_rules_resources(resources, shape):
    assert shape_of(resources, 5) == shape


def test_mistakes(capsys):
    with pytest.raises(UASError, match="no training 'codec_trian'. Did you mean 'codec_train'"):
        main(["codec_trian"])
    with pytest.raises(SystemExit):
        main(["--nodes", "0", "codec_train"])
    assert "at least 1" in capsys.readouterr().err
