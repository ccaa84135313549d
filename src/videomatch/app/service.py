"""Questions as plain values, answered one at a time: what the socket, the page and the command line share."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from videomatch.app.config import plan_of
from videomatch.app.library import Library

log = logging.getLogger(__name__)


class Desk:
    """Where questions are handed in.

    Args:
        library: who answers, or a mistake in the parameters that is every answer.
    """

    def __init__(self, library: Library | str) -> None:
        self.library = library
        self._one = threading.Lock()

    def reply(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer as plain values, or ``{"error": …}``.

        Args:
            question: ``command`` (``find`` or ``similar``), ``asked``, and any of ``dataset``, ``system``, ``member``,
                ``top``, and ``file`` (of ``similar``).
        """
        if isinstance(self.library, str):
            return {"error": self.library, "ends": True}  # they may be mended without a change of the files read
        commands: dict[str, Callable[..., Any]] = {"find": self.library.find, "similar": self.library.similar}
        try:
            command = commands[question["command"]]
            options = {k: v for k, v in question.items() if k not in ("command", "asked") and v is not None}
            with self._one:
                return command(question["asked"], **options).as_json()
        except (ValueError, OSError) as error:
            log.info("refused: %s", error)
            return {"error": str(error) or type(error).__name__}
        except Exception as error:
            log.exception("no answer to %s", question)
            return {"error": f"{type(error).__name__}: {error}"}


def opened(files: Sequence[Path], values: Sequence[str]) -> Desk:
    """A desk over the results of some parameters."""
    try:
        plan = plan_of(files, values)
    except (ValueError, OSError) as error:
        return Desk(str(error))
    options = [f"--configfile {' '.join(map(str, files))}"] if files else []
    options += [f"--config {' '.join(map(_quoted, values))}"] if values else []
    return Desk(Library(plan, " ".join(options)))


def _quoted(value: str) -> str:
    return f"'{value}'" if set(value) & set(' {}[]*?~$&;|<>()"') else value
