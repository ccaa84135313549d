"""``dvc.yaml`` from the rules: the folders of a part of the rules are the outs of one stage.

DVC versions what Snakemake makes. A stage's command is Snakemake restricted to that stage's rules; Snakemake alone
knows what in it has to run. The file is generated (``videomatch dvc``) and a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from videomatch.pipeline import params as parameters
from videomatch.pipeline import rules
from videomatch.pipeline.plan import Plan
from videomatch.specs.systems import Trained

#: what is in git rather than in DVC's cache: small, diffable, read by `dvc exp show`
IN_GIT = ("metrics", "tables")
CODE = ["Snakefile", "src/videomatch", "workflow"]
HEAD = "# Generated from the rules by `videomatch dvc`; a test compares. Edit workflow/rules or params.yaml instead.\n"


def stages(plan: Plan) -> dict[str, list[str]]:
    """Stage -> the folders below ``results/<scale>`` that its results are in."""
    made = rules.results(plan)
    used = {Path(path).relative_to(plan.root).parts[0] for paths in made.values() for path in paths}
    folders = {
        part: dict.fromkeys(r.output.split("/")[0] for r in rules.RULES if r.part == part) for part in rules.PARTS
    }
    return {part: [folder for folder in names if folder in used] for part, names in folders.items()}


def content(plan: Plan, sections: list[str]) -> dict[str, Any]:
    """The content of ``dvc.yaml`` for a plan. ``sections`` are the keys of its params.yaml."""
    described: dict[str, Any] = {}
    before: list[str] = []
    for stage, folders in stages(plan).items():
        if not folders:
            continue
        outs = [
            {f"results/${{scale}}/{f}": {"cache": False, "persist": True} if f in IN_GIT else {"persist": True}}
            for f in folders
        ]
        local = {r for d in rules.datasets(plan) for r in plan.raw_files(d)}
        local |= set(plan.backbone_files(plan.backbones))
        raw = sorted(str(Path(b).expanduser()) for b in local) if stage != "benchmark" else []
        described[stage] = {
            "cmd": f"snakemake {stage} --config stage={stage}",
            "deps": [*CODE, *before, *raw],
            "params": sections,
            "outs": outs,
        }
        before += [f"results/${{scale}}/{f}" for f in folders]
    metrics = [str(Path(plan.table(name)).parent / "summary.json") for name in plan.tables]
    described = {"stages": described}
    if metrics:
        described["metrics"] = [_scaled(plan, m) for m in metrics]
    drawn = plots(plan)
    if drawn:
        described["plots"] = drawn
    return described


def plots(plan: Plan) -> list[dict[str, Any]]:
    """What ``dvc plots`` draws: the learning curves and the scores over grades that the pages show."""
    found: dict[str, Any] = {}
    for page, entry in plan.pages.items():
        for system in entry.curves:
            logs = [_scaled(plan, plan.run(system, m), "log.csv") for m in plan.members(system)]
            for objective in plan.system_of_kind(system, Trained).objectives or ():
                for column in (f"train/{objective}", f"val/{objective}"):
                    found[f"{system}/{column}"] = {
                        "title": system,
                        "x": "epoch",
                        "x_label": "epoch",
                        "y": dict.fromkeys(logs, column),
                        "y_label": column,
                        "template": "linear",
                    }
        for system in entry.scatter:
            file = _scaled(plan, plan.page(page), f"similarity-{system}-{plan.members(system)[0]}.csv")
            found[f"similarity/{page}/{system}"] = {
                "title": f"{system}: cosine over grade",
                "x": "grade",
                "x_label": "grade",
                "y": {file: "score"},
                "y_label": "cosine similarity",
                "template": "scatter",
            }
    return [{name: plot} for name, plot in found.items()]


def _scaled(plan: Plan, path: str, name: str | None = None) -> str:
    """A path (or the file of that name beside it) with the scale left open."""
    file = str(Path(path).parent / name) if name else path
    return file.replace(plan.root, "results/${scale}", 1)


def text(params_file: Path) -> str:
    """What ``dvc.yaml`` must say for a params.yaml."""
    config = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    plan = Plan(parameters.resolved(config, [params_file]))
    return HEAD + yaml.safe_dump(content(plan, list(config)), sort_keys=False, width=120)
