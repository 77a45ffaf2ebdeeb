"""Configuration of a recipe: Hydra composes it, every stage gets one resolved YAML of its own.

``compose`` builds the whole configuration from ``egs/*/*/conf`` and overrides, ``sections`` cuts
it into the files ``exp/<corpus>/conf/<section>.yaml``. Hydra is imported when ``compose`` runs.
"""
