"""Evaluation: benchmarks and models, figures of a run and their tables.

``get_benchmark(name).score_item(item, response, protocol="uas")`` scores one answer.
"""

from uas_plugin.evaluation.benchmarks import PROTOCOLS, Benchmark, ItemScore, get_benchmark

__all__ = ["PROTOCOLS", "Benchmark", "ItemScore", "get_benchmark"]
