"""What differs between clusters, from one small file: the Slurm profiles read it, rules never do.

The file is ``workflow/profiles/site.yaml`` (``UAS_SITE`` names another). A key may also be given as
an environment variable, which then counts: ``UAS_SLURM_ACCOUNT=abc``. Without either
the cluster's own defaults hold.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_type_hints

from uas_plugin.errors import UASError, suggest

FILE = "workflow/profiles/site.yaml"
PREFIX = "UAS_SLURM_"

TRAININGS = (
    *("tokenizer_align", "tokenizer_train", "codec_train", "vocoder_train", "audiollm_train"),
    # Of the pipeline uniaudio2.
    *("encoder_train", "reasoning_train", "refinement_train", "reconstruction_train"),
    *("lm_stage", "lm_branch"),
)
"""Rules whose command `training` of job.sh starts: on any number of GPUs and nodes."""


@dataclasses.dataclass(frozen=True)
class Site:
    """A cluster.

    Attributes:
        account, qos, constraint: as in sbatch.
        partition: the partition of every job, where ``partitions`` does not choose.
        partitions: name -> limits, in the Slurm plugin's format (``max_runtime`` in minutes,
            ``max_mem_mb``, ``max_gpu``, ...): each job goes to the one that fits it best.
        gpu_type: model of the GPUs as the cluster spells it.
        gpus_per_node, num_nodes: of a training with the profile slurm_multinode.
        cpus_per_gpu: CPUs beside each GPU of a training.
        train_runtime: limit of a training job in minutes; it goes on in the next job.
        train_mem_mb: memory per node of a training in MB.
        extra: more words for sbatch, as the plugin's ``slurm_extra``.
        status_command: sacct, or squeue where there is no accounting.
        status_seconds: how often jobs are looked at when one has just ended.
        jobs: in the queue at the same time.
        latency_seconds: until a file shows on every node.
    """

    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    partition: str | None = None
    partitions: dict | None = None
    gpu_type: str | None = None
    gpus_per_node: int = 8
    num_nodes: int = 2
    cpus_per_gpu: int = 8
    train_runtime: int | None = None
    train_mem_mb: int | None = None
    extra: str | None = None
    status_command: str | None = None
    status_seconds: int = 40
    jobs: int = 64
    latency_seconds: int = 60
    path: str = FILE

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the site file, if there is one, and the environment.

        Raises:
            UASError: the file that UAS_SITE names is missing; an unknown key, or a wrong value.
        """
        environ = os.environ if environ is None else environ
        path = Path(environ.get("UAS_SITE") or FILE)
        if path.exists():
            values = _read(path)
        elif environ.get("UAS_SITE"):
            raise UASError(f"UAS_SITE={path}: there is no such file")
        else:
            values = {}
        types = get_type_hints(cls)
        known = [name for name in types if name != "path"]
        for name in environ:
            key = name.removeprefix(PREFIX).lower()
            if not name.startswith(PREFIX) or key == "dir":  # that one is local/slurm's
                continue
            if key not in known or key == "partitions":
                raise UASError(f"unknown setting {name}.{suggest(key, known)}")
            values[key] = environ[name]
        for key, value in values.items():
            if key not in known:
                raise UASError(f"unknown key '{key}' in {path}.{suggest(key, known)}")
            values[key] = _checked(key, value, types[key])
        site = cls(**values, path=str(path))
        if site.status_command not in (None, "sacct", "squeue"):
            raise UASError(f"status_command is sacct or squeue, not '{site.status_command}'")
        return site

    def gpus(self, count: int) -> dict[str, Any]:
        """Resources of a rule that computes on ``count`` GPUs of a node."""
        if not count:
            return {}
        return {"gpu": count, **({"gpu_model": self.gpu_type} if self.gpu_type else {})}

    def defaults(self) -> dict[str, Any]:
        """``default-resources`` of the Slurm profiles."""
        named = {
            "slurm_account": self.account,
            "slurm_partition": self.partition,
            "qos": self.qos,
            "constraint": self.constraint,
            "slurm_extra": self.extra,
        }
        # A string resource is a Python expression to Snakemake: quoted twice.
        return {
            "mem_mb": 2000,
            "runtime": 30,
            # Without it Snakemake adds the size of the inputs as a demand.
            "disk_mb": 1000,
            **{key: repr(str(value)) for key, value in named.items() if value is not None},
        }

    def one_node(self) -> dict[str, dict[str, Any]]:
        """``set-resources`` of the profile slurm: a training has the GPUs that the run asks for."""
        # 0 tasks a GPU: no word about tasks, so that one process (torchrun) gets all of them.
        return {rule: {"tasks_per_gpu": 0, **self._limits()} for rule in TRAININGS}

    def several_nodes(self) -> dict[str, dict[str, Any]]:
        """``set-resources`` of the profile slurm_multinode: trainings on ``num_nodes`` nodes each.

        Raises:
            UASError: fewer than two nodes.
        """
        if self.num_nodes < 2:
            raise UASError(f"num_nodes={self.num_nodes}: one node is what the profile slurm is for")
        gpus = self.gpus_per_node
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        shape: dict[str, Any] = {
            "nodes": self.num_nodes,
            # One task a node; `mpi` leaves it to the rule's command to start them.
            "tasks": self.num_nodes,
            "mpi": "srun",
            # GPUs are counted a node here: instead of `gpu`, which is of the whole job.
            "gpu": 0,
            "gpu_model": repr(""),
            "tasks_per_gpu": 0,
            "cpus_per_task": max(1, gpus) * self.cpus_per_gpu,
            **({"gres": repr(f"gpu:{kind}{gpus}")} if gpus else {}),
            **self._limits(),
        }
        return {rule: dict(shape) for rule in TRAININGS}

    def _limits(self) -> dict[str, Any]:
        limits = {"runtime": self.train_runtime, "mem_mb": self.train_mem_mb}
        return {key: value for key, value in limits.items() if value is not None}

    def partition_file(self) -> str | None:
        """The file whose ``partitions`` the Slurm plugin reads: this one."""
        return str(Path(self.path).resolve()) if self.partitions else None


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise UASError(f"{path} is no YAML: {line}") from None
    if not isinstance(values, dict | None):
        raise UASError(f"{path} must be a mapping of keys to values")
    return {key: value for key, value in (values or {}).items() if value is not None}


def _checked(key: str, value: Any, kind: Any) -> Any:
    if kind == dict | None:
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            raise UASError(f"{key} must be a mapping: partition -> limits")
        return value
    if kind in (int, int | None):
        if isinstance(value, bool) or not str(value).isdigit():
            raise UASError(f"{key} must be a whole number, not '{value}'")
        return int(value)
    if isinstance(value, dict | list):
        raise UASError(f"{key} must be one word, not {value}")
    return str(value)


def profile_site() -> Site:
    """The site for a profile: Snakemake shows what goes wrong there with no more than one line."""
    try:
        return Site.load()
    except UASError as error:
        raise SystemExit(f"error: {error}") from None
