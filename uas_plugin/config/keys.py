"""Dotted keys of nested mappings: listing, checking against a pattern, merging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from uas_plugin.errors import UASError, suggest

# Below these keys any name is allowed: ESPnet hands their content to a constructor, which
# checks it, and which names are valid depends on the class that is chosen beside them.
FREE_SUFFIXES = ("_conf",)


def dotted_keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every mapping and leaf of ``tree``, parents first."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from dotted_keys(value, path + ".")


def nearest_key(name: str, known: list[str]) -> str:
    """`` Did you mean 'x'?`` for a dotted key: siblings of the same parent are preferred."""
    parent, _, leaf = name.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    hint = suggest(leaf, siblings)
    if hint and parent:
        nearest = hint.split("'")[1]
        return f" Did you mean '{parent}.{nearest}'?"
    return hint or suggest(name, known)


def check_keys(
    given: Mapping[str, Any], pattern: Mapping[str, Any], *, where: str, group: str = ""
) -> None:
    """Check that every key of ``given`` exists in ``pattern``.

    Mappings named ``*_conf`` and mappings that are empty in the pattern accept any key.

    Args:
        given: what the user wrote.
        pattern: the known keys, with their default values.
        where: the file or option to name in the message.
        group: dotted prefix to name in the message.

    Raises:
        UASError: an unknown key, with the nearest known one.
    """
    for key, value in given.items():
        name = f"{group}.{key}" if group else str(key)
        if key not in pattern:
            known = [f"{group}.{k}" if group else str(k) for k in dotted_keys(pattern)]
            raise UASError(f"unknown key '{name}' in {where}.{nearest_key(name, known)}")
        known_value = pattern[key]
        free = not known_value or str(key).endswith(FREE_SUFFIXES)
        if free or not isinstance(known_value, Mapping):
            continue
        if not isinstance(value, Mapping):
            raise UASError(f"key '{name}' in {where} must be a mapping, not {value!r}")
        check_keys(value, known_value, where=where, group=name)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with ``changes`` written over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def set_key(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Write ``value`` at the dotted key, making the mappings on the way."""
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value
