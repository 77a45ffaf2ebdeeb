#!/usr/bin/env python3
"""Print shell lines that hand the user's pip configuration to uv, which does not read it.

uv has its own files and variables; where the user has set those, they win. The output is meant for
``eval "$(python3 local/pip_to_uv.py)"`` and may hold credentials: it must not be logged.
Runs with any Python 3.6+ that the system has, with or without pip.
"""

import ast
import os
import shlex
import subprocess
import sys

# pip option -> (environment variable that uv reads, separator; variables that mean "already set")
OPTIONS = {
    "find-links": ("UV_FIND_LINKS", ",", ()),
    "index-url": ("UV_DEFAULT_INDEX", " ", ("UV_INDEX_URL",)),
    "extra-index-url": ("UV_INDEX", " ", ("UV_EXTRA_INDEX_URL",)),
    "trusted-host": ("UV_INSECURE_HOST", " ", ()),
    "cert": ("SSL_CERT_FILE", " ", ()),
    "proxy": ("HTTPS_PROXY", " ", ("https_proxy", "ALL_PROXY", "all_proxy")),
    "timeout": ("UV_HTTP_TIMEOUT", " ", ("UV_REQUEST_TIMEOUT",)),
}
ALIASES = {"default-timeout": "timeout"}


def parse_config_list(text):
    """``pip config list`` -> {option: value}; environment over command section over global."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if not separator or section not in rank:
            continue
        option = ALIASES.get(option, option)
        if option not in found or rank[section] >= found[option][0]:
            found[option] = (rank[section], ast.literal_eval(value))
    return {option: value for option, (_, value) in found.items()}


def pip_settings():
    """pip's options as it sees them itself; without pip, those of PIP_* variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    try:
        text = subprocess.check_output(command, stderr=subprocess.DEVNULL, env=environment)
        return parse_config_list(text.decode())
    except (OSError, subprocess.CalledProcessError):
        prefix = "PIP_"
        names = [name for name in os.environ if name.startswith(prefix)]
        settings = {
            name[len(prefix) :].lower().replace("_", "-"): os.environ[name] for name in names
        }
        return {ALIASES.get(option, option): value for option, value in settings.items()}


def main_index(settings):
    """The index that pip asks first: the configured one, or pip's own default."""
    if "index-url" in settings:
        return settings["index-url"]
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return ""
    return PyPI.simple_url


def shell_lines(settings, environment):
    """The ``export`` lines for ``settings`` that ``environment`` does not already decide."""
    lines = []
    for option, (variable, separator, others) in OPTIONS.items():
        values = settings.get(option, "").split()
        if not values or any(environment.get(name) for name in (variable, *others)):
            continue
        if option == "find-links":  # uv is run from another folder than the caller's
            values = [
                os.path.abspath(value) if os.path.exists(value) else value for value in values
            ]
        if option == "extra-index-url":
            # Of equal versions uv takes the first index's file, even where a later index has one
            # that fits the machine better; the main index is the one that is complete.
            values = [*filter(None, [main_index(settings)]), *values]
        lines.append(f"export {variable}={shlex.quote(separator.join(values))}")
        if option == "extra-index-url" and not environment.get("UV_INDEX_STRATEGY"):
            # pip takes the best version of all indexes; uv stops at the first that has the name.
            lines.append("export UV_INDEX_STRATEGY=unsafe-best-match")
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        lines.append("uv_flags+=(--no-index)")
    return lines


if __name__ == "__main__":
    print("\n".join(shell_lines(pip_settings(), os.environ)))
