"""``uas torchrun``: the processes of a training, on one machine or on every node of a Slurm job.

The same line starts one process, one a GPU of this machine, or one a GPU on several nodes. There it
runs twice: the first call starts itself once a node (``srun``), and those find the first node, its
port and their own rank in the variables of the Slurm step, and become torch's own torchrun.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin import bin as entry_points
from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError, suggest

TORCHRUN = "uas_plugin.espnet.torchrun"
"""torch.distributed.run, less its habit of ending with 1 whatever its processes end with."""

FIRST_PORT, PORTS = 15000, 10000
"""Ports of rank 0: below those that Linux gives to clients (32768 and above)."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of a training meet.

    Attributes:
        nodes: number of nodes. node_rank: this one's.
        host, port: of the first node (``None`` on a single node: torchrun finds its own).
    """

    nodes: int = 1
    node_rank: int = 0
    host: str | None = None
    port: int | None = None

    def words(self) -> list[str]:
        """Options of torch.distributed.run."""
        if self.nodes == 1:
            return ["--standalone"]
        return [
            *("--nnodes", str(self.nodes), "--node-rank", str(self.node_rank)),
            *("--master-addr", str(self.host), "--master-port", str(self.port)),
        ]


def first_host(nodelist: str) -> str:
    """The first node of a Slurm node list: ``gpu[03-04,7],cpu1`` -> ``gpu03``."""
    first = re.split(r",(?![^\[]*\])", nodelist)[0]
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first)


def node_address(host: str, run: Callable[..., Any] = subprocess.run) -> str:
    """``host`` if this machine can look it up, else the address that Slurm knows.

    Raises:
        UASError: neither knows it.
    """
    try:
        socket.getaddrinfo(host, None)
        return host
    except OSError:
        pass
    if shutil.which("scontrol"):
        done = run(["scontrol", "show", "node", host], capture_output=True, text=True)
        if found := re.search(r"\bNodeAddr=(\S+)", done.stdout):
            return found.group(1)
    raise UASError(f"the first node, {host}, has no address here: set MASTER_ADDR to one")


def rendezvous(environ: Mapping[str, str]) -> Rendezvous:
    """Where to meet, from the variables of this Slurm step; one node outside of a step.

    ``MASTER_ADDR`` and ``MASTER_PORT`` count more than what is derived.

    Raises:
        UASError: a step on several nodes has not one task a node.
    """
    nodes = int(environ.get("SLURM_STEP_NUM_NODES", "1"))
    if nodes == 1:
        return Rendezvous()
    if environ.get("SLURM_STEP_NUM_TASKS") != str(nodes):
        raise UASError(
            f"this Slurm step has {environ.get('SLURM_STEP_NUM_TASKS')} tasks on {nodes} nodes: "
            "start one a node, srun --ntasks-per-node 1"
        )
    # Every node must come to the same port, and two steps of a job to different ones.
    number = int(environ["SLURM_JOB_ID"]) * 16 + int(environ["SLURM_STEP_ID"])
    return Rendezvous(
        nodes=nodes,
        node_rank=int(environ["SLURM_NODEID"]),
        host=environ.get("MASTER_ADDR") or node_address(first_host(environ["SLURM_STEP_NODELIST"])),
        port=int(environ.get("MASTER_PORT") or FIRST_PORT + number % PORTS),
    )


def srun_words(nodes: int, gpus: int, cpus: int, gpu_type: str | None = None) -> list[str]:
    """The call of srun that starts one task a node. A step inherits no shape: all is said again."""
    kind = f"{gpu_type}:" if gpu_type else ""
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"),
        *("--cpus-per-task", str(cpus)),
        *((f"--gres=gpu:{kind}{gpus}",) if gpus else ()),
        "--kill-on-bad-exit=1",  # a node that fails ends the others, which would wait for it
    ]


def shape_of(resources: Mapping[str, Any], threads: int) -> str:
    """The options of ``uas torchrun`` that fit a rule's resources (words for a shell).

    Args:
        resources: ``nodes``, GPUs as ``gpu`` (of the job) or ``gres`` (a node), and ``runtime``
            (minutes).
        threads: CPUs of a job without ``cpus_per_task``.
    """
    nodes = int(resources.get("nodes", 1))
    gpus, kind = int(resources.get("gpu", 0) or 0), ""
    if found := re.search(r"\bgpu:(?:([^:,]+):)?(\d+)", str(resources.get("gres", ""))):
        kind, gpus = found.group(1) or "", int(found.group(2))
    words = ["--nodes", str(nodes), "--gpus_per_node", str(gpus)]
    if nodes > 1:
        words += ["--cpus_per_node", str(resources.get("cpus_per_task", threads))]
        words += ["--gpu_type", kind] if kind else []
    if minutes := resources.get("runtime"):
        words += ["--job_runtime_min", str(minutes)]
    return shlex.join(words)


def espnet_words(gpus: int) -> list[str]:
    """ESPnet's options for a process that torchrun starts: one GPU, whatever its file says."""
    return [
        *("--ngpu", str(min(1, gpus)), "--multiprocessing_distributed", "false"),
        *("--dist_backend", "nccl" if gpus else "gloo"),
    ]


def command(
    args: argparse.Namespace, words: Sequence[str], environ: Mapping[str, str]
) -> list[str]:
    """What ``uas torchrun`` becomes.

    Args:
        args: its own options. words: all of its command line, for the call on each node.
        environ: variables of the process.

    Raises:
        UASError: several nodes are asked for where there is no srun.
    """
    program = ["-m", f"uas_plugin.bin.{args.training}", *args.options]
    if args.job_runtime_min and "SLURM_JOB_ID" in environ:  # elsewhere nobody ends it
        program += ["--max_runtime_min", str(args.job_runtime_min)]
    if args.nodes > 1 and environ.get("SLURM_STEP_NUM_NODES") != str(args.nodes):
        if not shutil.which("srun"):
            raise UASError(f"{args.nodes} nodes need Slurm, and there is no srun on this machine")
        shape = srun_words(args.nodes, args.gpus_per_node, args.cpus_per_node, args.gpu_type)
        return [*shape, sys.executable, "-m", "uas_plugin.cli", "torchrun", *words]
    processes = args.nproc_per_node or max(1, args.gpus_per_node)
    if args.nodes * processes == 1:
        return [sys.executable, *program]
    # On one node, what a Slurm step says of others is not meant for this training.
    meeting = rendezvous(environ) if args.nodes > 1 else Rendezvous()
    return [
        *(sys.executable, "-m", TORCHRUN, *meeting.words()),
        *("--nproc-per-node", str(processes), *program, *espnet_words(args.gpus_per_node)),
    ]


def get_parser() -> Parser:
    """Options of the command; those of the training follow its name."""
    parser = make_parser(
        "Start the processes of a training: on this machine, or on the nodes of a Slurm job.",
        "uas torchrun --gpus_per_node 8 audiollm_train --config exp/mini/conf/audiollm.yaml ...\n"
        "uas torchrun --nodes 2 --gpus_per_node 8 --cpus_per_node 64 audiollm_train ...\n"
        "    (the second inside a Slurm job of two nodes)",
    )
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the job (1)")
    parser.add_argument("--gpus_per_node", type=int, default=0, help="0: on CPUs, with gloo (0)")
    parser.add_argument("--nproc_per_node", type=int, help="processes (one a GPU, at least one)")
    parser.add_argument("--cpus_per_node", type=int, default=1, help="CPUs of a node's task (1)")
    parser.add_argument("--gpu_type", help="model of the GPUs, where the cluster wants it named")
    parser.add_argument(
        "--job_runtime_min",
        type=float,
        help="in a Slurm job: minutes it may run; the training saves and stops ahead of that",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the command")
    parser.add_argument(
        "training", help="module of uas_plugin.bin: tokenizer_train, codec_train, ..."
    )
    parser.add_argument("options", nargs=argparse.REMAINDER, help="the training's own")
    return parser


def main(argv: Sequence[str]) -> None:
    """Become the command.

    Raises:
        UASError: no such training, and see ``command``.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    if min(args.nodes, args.nproc_per_node or 1, args.cpus_per_node) < 1 or args.gpus_per_node < 0:
        parser.error("numbers of nodes, processes and CPUs are at least 1.")
    known = [path.stem for path in Path(entry_points.__path__[0]).glob("*_train.py")]
    if args.training not in known:
        raise UASError(f"no training '{args.training}'.{suggest(args.training, known)}")
    line = command(args, argv, os.environ)
    if args.dry_run:
        print(shlex.join(line))
        return
    os.execvp(line[0], line)
