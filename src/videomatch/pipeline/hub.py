"""Weights and tokenizers that are named by a hub id: they are loaded before the first job starts, where the run is
started, since the nodes of a cluster are often offline. Jobs find them in the hub's cache and ask the hub nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from videomatch.common.digests import dumps
from videomatch.pipeline import rules
from videomatch.pipeline.plan import Plan
from videomatch.specs.data import is_path
from videomatch.specs.systems import Trained

#: names of the files of weights, as transformers and CTranslate2 look for them: those of the first row that has some
WEIGHTS = (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin", "model.bin"))
#: configurations and vocabularies
BESIDE = ["*.json", "*.txt", "*.model"]


def load(plan: Plan, results: Iterable[str]) -> None:
    """Load what the jobs of some results name by hub id, unless it is in the hub's cache, and let no job ask the hub
    again. A ValueError where something can neither be found nor loaded names it and its parameter."""
    settings = dumps([rules.job_of(plan, result).settings for result in results])
    ids = {f"backbones.{name}.pretrained": entry.pretrained for name, entry in plan.backbones.items()}
    trained = plan.of_kind(Trained).items()
    ids |= {f"systems.{name}.tokenizer.pretrained": e.tokenizer.pretrained for name, e in trained if e.tokenizer}
    places: dict[str, list[str]] = {}
    for place, checkpoint in ids.items():
        if checkpoint and not is_path(checkpoint) and not Path(checkpoint).exists() and dumps(checkpoint) in settings:
            places.setdefault(checkpoint, []).append(place)
    for checkpoint, named in places.items():
        try:
            _load(checkpoint, any(place.startswith("backbones.") for place in named))
        except Exception as error:  # of the network, of the hub, of the disk
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"{' and '.join(named)}: {checkpoint!r} is not in the hub's cache and cannot be loaded ({reason}); run "
                f"`hf download {checkpoint}` where the hub can be reached, with the same HF_HOME, or name a folder"
            ) from error
    if places:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _load(checkpoint: str, with_weights: bool) -> None:
    from huggingface_hub import snapshot_download  # here: it costs a third of a second, and most runs have none

    folder = Path(snapshot_download(checkpoint, allow_patterns=BESIDE, ignore_patterns=["*/*"]))
    for names in WEIGHTS if with_weights else ():
        snapshot_download(checkpoint, allow_patterns=list(names))
        if any(file for name in names for file in folder.glob(name)):
            return
    if with_weights:
        raise ValueError(f"the hub has none of {', '.join(name for names in WEIGHTS for name in names)}")
