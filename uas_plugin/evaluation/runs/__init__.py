"""Runs: ask a model all questions of a benchmark, keep what it said, and score it.

``ask`` writes ``responses/``, ``score`` reads them and writes ``items.jsonl`` and ``scores.json``;
``run.json`` says what the two depend on.
"""
