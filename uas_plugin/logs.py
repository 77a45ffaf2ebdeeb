"""The log of a job: one line a message, for people or (``UAS_LOG_FORMAT=json``) for programs.

A line for people is ``2026-11-28 10:00:00,000 LEVEL (module:line) message``. A line for programs is
an object with ``time`` (seconds since 1970), ``level``, ``module``, ``line``, ``message``, and
``cut`` where the message is about one: errors of data name it as "cut <id>:".
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys

TEXT_FORMAT = "%(asctime)s %(levelname)s (%(module)s:%(lineno)d) %(message)s"
_CUT = re.compile(r"\bcut ([^\s:]+)(?=[: ]|$)")


class JsonLines(logging.Formatter):
    """One JSON object a line; a traceback is one string in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        message = record.getMessage()
        row = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "module": record.module,
            "line": record.lineno,
            "message": message,
        }
        if match := _CUT.search(message):
            row["cut"] = match.group(1)
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def as_json() -> bool:
    """Whether logs are for programs (``UAS_LOG_FORMAT=json``)."""
    return os.environ.get("UAS_LOG_FORMAT") == "json"


def start_logging() -> None:
    """Send messages to standard error, from the level ``UAS_LOG_LEVEL`` (INFO) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json() else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=os.environ.get("UAS_LOG_LEVEL", "INFO"), handlers=[handler])
