# What all rules share: the checked parameters, one job at a time in this folder, and the judge of what is current.
import fcntl
import os
import platform
import sys
from pathlib import Path

from snakemake.scheduling.job_scheduler import JobScheduler

sys.path.insert(0, str(Path("src").resolve()))
from videomatch import cli
from videomatch.pipeline import params as parameters
from videomatch.pipeline import preload, provenance
from videomatch.pipeline.plan import Plan

config_files = [Path(f) for f in ("params.yaml", *workflow.configfiles) if Path(f).exists()]
given = parameters.overlay(config, parameters.typed(dict(workflow.config_settings.config)))
try:
    plan = Plan(parameters.resolved({k: v for k, v in given.items() if k != "stage"}, dict.fromkeys(config_files)))
    plan.check()
except ValueError as error:
    sys.exit(f"{error}")

if workflow.is_main_process:
    # Snakemake's own lock stays behind after a kill; the kernel takes this one away with its process
    provenance.SCRATCH.mkdir(exist_ok=True)
    lock = (provenance.SCRATCH / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another snakemake is at work in this folder; wait for it to end")
    # Snakemake would do the jobs of a killed run again, even where a checkout has since brought their results whole
    for mark in Path(".snakemake/incomplete").glob("*"):
        mark.unlink()
    preload.sweep(provenance.SCRATCH)
    os.environ["VIDEOMATCH_WORKFLOW"] = f"{platform.node()}:{os.getpid()}"
    # jobs run this folder's source, also where the package is installed from another one (an experiment's copy)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path("src").resolve()), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # jobs would compile what they import again and again
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # for its limit of 100 jobs a second, Snakemake 9.27 looks at all ready jobs again a second after it last did, once more
    # for every job that ended: late in a long run that takes most of a processor, and no run starts 100 jobs a second
    JobScheduler._schedule_reevalutation = lambda self, delay: None
    # unbuffered, Snakemake writes a line and its end apart, and a job's own line may come between
    sys.stderr.reconfigure(line_buffering=True, write_through=False)


def job(stage, output, settings, modules=None, reads=None, files=None, **inputs):
    """The inputs of a rule: `unpack(job(...))`. Every value is a pattern, or a function of the wildcards.

    The job's settings file is one of its inputs. It holds all that the stage sees, and it is newer than the output
    exactly when the output is not what would be made now: see `provenance.settle`. An input that is None is none.
    """

    def resolve(wildcards):
        def value(given, otherwise):
            if given is None:
                return otherwise
            return given(wildcards) if callable(given) else given.format(**wildcards)

        named = {name: value(given, []) for name, given in inputs.items()}
        named = {name: paths for name, paths in named.items() if paths is not None}
        loaded = value(modules, [])
        request = {
            "stage": stage,
            "settings": value(settings, {}),
            "modules": loaded,
            "code": provenance.code_digest(stage, *loaded),
            "inputs": named,
            "reads": value(reads, {}),
            "files": {f: provenance.tree_digest(Path(f).expanduser()) for f in value(files, [])},
        }
        manifest = Path(output.format(**wildcards))
        if not workflow.is_main_process:
            return named | {"settings": str(provenance.SCRATCH / "settings" / manifest)}
        return named | {"settings": str(provenance.settle(manifest, request))}

    return resolve


def farewell():
    """Last words of a run: nothing that could not be read is lost silently."""
    for dataset, rejected in cli.rejections(plan).items():
        if len(rejected):
            sys.stderr.write(f"{dataset}: {len(rejected)} files were rejected; `videomatch tables` says why\n")


# every rule runs a stage in the same way; the settings file says with what
STAGE = (
    "python -m videomatch {params.stage} --settings {input.settings} --output {output} --log {log} --threads {threads}"
)
# a graphics card is used where there is one, by one job at a time
GPU = int(any(Path("/dev").glob("nvidia[0-9]*")))


wildcard_constraints:
    dataset="|".join(plan.datasets) or "none",
    passage=r"\w+",
    shard=r"\d+",
    system="|".join(plan.systems) or "none",
    member=r"[\w-]+",
    split=r"\w+",
    table=r"\w+",
    page=r"\w+",
    expert=r"\w+",
    submission=r"\w+",
