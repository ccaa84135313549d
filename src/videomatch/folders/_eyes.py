"""What looks at the frames of an indexed folder and reads questions about them: an expert, and a space for both; and
what hears speech in it.

Models are ``conse`` (of installed packages, without a hub) and any dual encoder of pictures and texts of transformers,
by folder or hub id (CLIP, SigLIP …), or by a short name of :data:`SHORT`.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.common import named
from videomatch.common.vectors import unit_rows
from videomatch.specs.data import is_path

#: the model of packages, and no model at all
PACKAGED, BLIND = "conse", "none"
SHORT = {"siglip2": "google/siglip2-base-patch16-224", "clip": "openai/clip-vit-base-patch32"}
#: seconds between frames
EVERY = 1.0
#: characters of a reason that are shown
MAX_REASON = 200


class Eyes:
    """A model by name. ``expert`` are its options for ``extract``, with ``backbones``."""

    def __init__(self, name: str) -> None:
        self.name = SHORT.get(name, str(Path(name).expanduser().absolute()) if is_path(name) else name)
        self.expert: dict[str, Any] = {"extractor": "efficientnet_lite", "every": EVERY}
        self.backbones: dict[str, str] = {}
        if self.name != PACKAGED:
            self.expert = {"extractor": "image", "backbone": "eyes", "every": EVERY}
            self.backbones = {"eyes": self.name}

    def check(self) -> None:
        """Raise a ValueError, an OSError or a ModuleNotFoundError where the model cannot be loaded."""
        if self.name == PACKAGED:
            _ = self._conse
        else:
            from videomatch.experts._backbone import config_of  # with transformers

            if is_path(self.name) and not Path(self.name).is_dir():
                raise ValueError(f"{self.name} does not exist")

            if not hasattr(config_of(self.name), "text_config"):
                raise ValueError(f"{self.name} reads no texts, expected a dual encoder as CLIP")

    def frames(self, features: np.ndarray) -> np.ndarray:
        """Rows of the expert -> unit rows of the space of questions."""
        return self._conse.frames(features) if self.name == PACKAGED else unit_rows(features, np.float32)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit rows."""
        return self._conse.encode(texts) if self.name == PACKAGED else self._tower(texts)

    @cached_property
    def _conse(self) -> Any:
        from videomatch.experts._conse import Conse

        return Conse()

    @cached_property
    def _tower(self) -> Any:
        from videomatch.stages.embed import text_tower  # with torch

        return text_tower(self.name)


def choose_speech(name: str | None, recorded: str, notes: list[str]) -> str:
    """The Whisper (folder or hub id) of an index: ``name`` where there is one, else what is ``recorded``; ``notes`` say
    what is missing."""
    if name is None or name == BLIND:
        return recorded if name is None else BLIND
    from videomatch.experts._backbone import find_file  # with transformers

    try:
        named.require("faster_whisper", "speech")
        place = str(Path(name).expanduser().absolute()) if is_path(name) else name
        if is_path(name) and not Path(place).is_dir():
            raise ValueError(f"{place} does not exist")
        if find_file(place, "config.json") is None:
            raise ValueError(f"{place} holds no config.json, expected a Whisper")
        return place
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        notes.append(f"speech model {name!r} cannot be loaded, taken is {recorded!r}: {reason}")
        return recorded


def choose(name: str | None, recorded: str, notes: list[str]) -> str:
    """The model of an index: ``name`` where it can be loaded, else what is ``recorded``; ``notes`` say what is missing.
    What is recorded is not tried: what it saw is kept where its hub cannot be reached."""
    if name == BLIND:
        return BLIND
    if name is not None:
        try:
            Eyes(name).check()
            return Eyes(name).name
        except (ValueError, OSError, ModuleNotFoundError) as error:
            reason = " ".join(str(error).split())[:MAX_REASON]
            notes.append(f"model {name!r} cannot be loaded, taken is {recorded!r}: {reason}")
    if recorded == BLIND:
        notes.append(f"no network looks at the pictures: name one by --model, as --model {PACKAGED}")
    return recorded
