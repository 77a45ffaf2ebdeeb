"""Compose a recipe's configuration with Hydra; every mistake is one line with the nearest key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.config.keys import check_keys, dotted_keys, merged, nearest_key, set_key
from uas_plugin.errors import UASError, suggest

PRESET_GROUPS = ("corpus", "size", "corpus_size")
"""Groups whose files write over other groups (``@package _global_``)."""


def conf_dir(recipe_dir: str | Path) -> Path:
    """The folder of the recipe's configuration.

    Raises:
        UASError: the recipe has none.
    """
    path = Path(recipe_dir) / "conf"
    if not (path / "config.yaml").exists():
        raise UASError(f"{path}/config.yaml is missing: is '{recipe_dir}' a recipe folder?")
    return path.resolve()


def choices(recipe_dir: str | Path, group: str) -> list[str]:
    """Names of the YAML files of a configuration group, sub-folders included."""
    folder = conf_dir(recipe_dir) / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def groups(recipe_dir: str | Path) -> list[str]:
    """Names of the recipe's configuration groups."""
    return sorted(p.name for p in conf_dir(recipe_dir).iterdir() if p.is_dir())


def compose(
    recipe_dir: str | Path,
    overrides: Sequence[str] = (),
    files: Mapping[str, str | Path] | None = None,
) -> dict[str, Any]:
    """The resolved configuration of a recipe.

    Args:
        recipe_dir: folder with ``conf/config.yaml``.
        overrides: Hydra overrides (``tokenizer=x``, ``trainer.max_steps=9``, ``+a.b=c``, ``~a.b``).
        files: group -> YAML file whose keys are written over the group (``--tokenizer_config F``);
            overrides of single keys are applied after it.

    Returns:
        Plain dicts, lists and scalars, interpolations resolved.

    Raises:
        UASError: an unknown key, group or option, or a value that cannot be read.
    """
    composed, chosen = _hydra_compose(recipe_dir, overrides)
    config = _to_dict(composed)
    _check_presets(recipe_dir, config, chosen)
    for group, path in (files or {}).items():
        config[group] = _apply_file(recipe_dir, config, group, Path(path))
    if files:
        for name, value in _value_overrides(overrides):
            if name.split(".")[0] in files:
                set_key(config, name, value)
    return config


def _hydra_compose(recipe_dir: str | Path, overrides: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """(composed configuration, the option that was chosen of each group)."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = conf_dir(recipe_dir)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            config = hydra_compose("config", list(overrides), return_hydra_config=True)
        chosen = {k: v for k, v in config.hydra.runtime.choices.items() if "/" not in k}
        return OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), chosen
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
    raise UASError(_readable(recipe_dir, message, overrides))


def _to_dict(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        lines = [line.strip() for line in str(error).splitlines()]
        key = next((line.split(":", 1)[1].strip() for line in lines if "full_key:" in line), "?")
    raise UASError(f"configuration key '{key}' has no value ({lines[0]})")


def _readable(recipe_dir: str | Path, message: str, overrides: Sequence[str]) -> str:
    """One line from Hydra's message: what is unknown, and the nearest known name."""
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", message)
    if missing:
        group, option = missing.groups()
        known = choices(recipe_dir, group) if (conf_dir(recipe_dir) / group).is_dir() else []
        return (
            f"unknown option '{option}' of configuration group '{group}'"
            f" (there are: {', '.join(known) or 'none'}).{suggest(option, known)}"
        )
    unknown = re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", message)
    if unknown and overrides:
        key = unknown.group(1).lstrip("+~").split("=")[0]
        known = list(dotted_keys(_to_dict(_hydra_compose(recipe_dir, ())[0]))) + groups(recipe_dir)
        if key in known:
            return f"configuration override of '{key}': {_first_line(message)}"
        return f"unknown configuration key '{key}'.{nearest_key(key, known)}"
    bad = next((o for o in overrides if "=" not in o and not o.startswith("~")), None)
    if bad is not None:
        return f"'{bad}' is neither an option (--name) nor an override (key=value)."
    if len(overrides) == 1 or "parse" in message or "input" in message:
        return f"override {' '.join(overrides)}: {_first_line(message)}"
    return f"configuration: {_first_line(message)}"


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "unknown error")


def _value_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """(dotted key, value) of the overrides that set a single key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [
        (item.key_or_group, item.value())
        for item in parsed
        if "." in item.key_or_group and not item.is_delete()
    ]


def _check_presets(
    recipe_dir: str | Path, config: Mapping[str, Any], chosen: Mapping[str, str]
) -> None:
    """A preset may only write keys that the groups define: Hydra itself would add any key."""
    folder = conf_dir(recipe_dir)
    for preset in PRESET_GROUPS:
        path = folder / preset / f"{chosen.get(preset)}.yaml"
        if not path.exists():
            continue
        content = _read_yaml(path)
        content.pop("defaults", None)
        top = set(_read_yaml(folder / "config.yaml")) | set(chosen)
        for key, values in content.items():
            if key not in top:
                raise UASError(f"unknown key '{key}' in {path}.{suggest(key, top)}")
            if key in chosen and isinstance(values, Mapping):
                pattern = _group_file(recipe_dir, key, chosen[key])
                check_keys(values, pattern, where=str(path), group=key)


def _group_file(recipe_dir: str | Path, group: str, option: str) -> dict[str, Any]:
    """Content of a group's file with its parents (entries of its ``defaults``) merged in."""
    content = _read_yaml(conf_dir(recipe_dir) / group / f"{option}.yaml")
    result: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            parent = entry.split("@")[0].removeprefix(f"/{group}/")
            result = merged(result, _group_file(recipe_dir, group, parent))
    return merged(result, content)


def _apply_file(
    recipe_dir: str | Path, config: Mapping[str, Any], group: str, path: Path
) -> dict[str, Any]:
    """The group's values with the user's file written over them, after a check of its keys."""
    if group not in config or not isinstance(config[group], Mapping):
        raise UASError(
            f"unknown configuration group '{group}'.{suggest(group, groups(recipe_dir))}"
        )
    content = _read_yaml(path)
    check_keys(content, config[group], where=str(path), group=group)
    return merged(config[group], content)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UASError(f"cannot read configuration file {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise UASError(f"configuration file {path} is not plain YAML: {line}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UASError(f"configuration file {path} must be a mapping of keys to values")
    return content
