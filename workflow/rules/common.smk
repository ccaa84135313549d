# What all rules share: the checked parameters, a lock on this folder, and the judgement of which results are current.
import os
import signal
import subprocess
import sys
from pathlib import Path

from snakemake.logging import logger

sys.path.insert(0, str(Path("src").resolve()))
from videomatch.pipeline import run_log

sys.excepthook = run_log.end_interrupted
from videomatch.common import files
from videomatch.common.digests import SCRATCH
from videomatch.common.messages import count
from videomatch.pipeline import hub, params as parameters, provenance, resources, rules
from videomatch.pipeline.plan import Plan
from videomatch.pipeline.state import State

# A job on a cluster starts Snakemake again.
IS_FIRST = workflow.is_main_process

try:
    given, read = parameters.load(workflow.configfiles or ["params.yaml"], workflow.config_settings.config_args or ())
    plan = Plan(parameters.resolved(given, read, checked=not IS_FIRST))
    if IS_FIRST and not rules.needed(plan):
        sys.exit("nothing to make: results are made for tables, pages and submissions, and the parameters name none")
    if IS_FIRST:
        rules.require_packages(plan)
except ValueError as error:
    sys.exit(f"{error}")


def make_now(result):
    """Run a job before the rules are read any further; on the head of a cluster only a small one. Whether it was made."""
    is_near = workflow.local_exec or resources.minutes(plan, result) <= resources.SMALL
    if workflow.executor_plugin is None or workflow.dryrun or not is_near:
        return False
    made, wildcards = rules.rule_of(plan, result)
    log = f"logs/{plan.params['scale']}/{made.output.format(**wildcards)}.log"
    job = [made.name, "--settings", provenance.settings_file(Path(result)), "--output", result, "--log", log]
    return subprocess.run([sys.executable, "-m", "videomatch", *job], check=False).returncode == 0


def tidy(folder):
    """Before the results in a folder are judged: a job that was killed while its result took its place left what it
    replaced, and may never run again."""
    if workflow.executor_plugin is not None and not workflow.dryrun:
        files.sweep(folder)


# what has to be made, found out before anything runs
state = State(plan, make_now, tidy)
# manifest by which Snakemake knows a job -> the results that it has to make, and why
reasons = {}

files.sweep(SCRATCH, "fork_server.*")
os.environ["VIDEOMATCH_WORKFLOW"] = files.me()  # this process's jobs end with it
if IS_FIRST:
    # Snakemake's own lock remains after a kill; this one is known to be left then
    for folder in map(Path, (".", ".snakemake", SCRATCH, "logs", "results", plan.root)):
        if folder.exists() and not os.access(folder, os.W_OK):
            sys.exit(run_log.cannot_write(folder, "not writable"))
    try:
        lock = files.lock(SCRATCH / "lock")
        holder = "" if lock else (SCRATCH / "lock").read_text().partition("-")[2]
    except FileNotFoundError:  # it has ended since
        lock, holder = files.lock(SCRATCH / "lock"), "another host"
    except OSError as error:
        sys.exit(run_log.cannot_write(SCRATCH, error.strerror))
    if lock is None:
        sys.exit(f"another snakemake is at work in this folder (on {holder}); wait for it to end")
    files.cancel_timers_at_the_end()  # of Snakemake's limit of jobs (profiles/default)
    # jobs run this folder's source, also where the package is installed from another one (an experiment's copy)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path("src").resolve()), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # without the compiled files of others, every job would compile what it imports
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # unbuffered, Snakemake writes a line and its end apart, and a job's own line may come between
    sys.stderr.reconfigure(line_buffering=True, write_through=False)
    stop = lambda: os.kill(os.getpid(), signal.SIGINT)
    cluster = lambda: not workflow.local_exec
    seen = run_log.RunLog(reasons, is_dry=lambda: workflow.dryrun, stop=stop, on_cluster=cluster)
    seen.attach(logger)


def result_of(made, wildcards):
    """The result that a rule makes."""
    return plan.result(made.output.format(**dict(wildcards.items())))


def to_make(results):
    """The inputs of a rule that makes nothing itself, a function: those of some results that are not current."""
    return lambda wildcards: cannot_write(lambda: state.wanted(results)) or list(results)[:1]


def cannot_write(look):
    """What looking at results gives; where that cannot write settings, the end of the run."""
    try:
        return look()
    except OSError as error:
        sys.exit(run_log.cannot_write(Path(error.filename or "").parent, error.strerror))


def inputs(made):
    """The inputs of a rule: `unpack(inputs(made))`.

    The job's settings file is one of them. It holds all that the stage sees, and it is newer than the output exactly when
    something is to be made: see `provenance.mark`. The others are results that are not current themselves: Snakemake need
    not look at what is, which may be thousands of files.
    """

    def of(wildcards):
        result = result_of(made, wildcards)
        settings = str(provenance.settings_file(Path(result)))
        if not IS_FIRST:  # the first Snakemake has marked all
            read = [path for part in rules.together(plan, result) for path in rules.job_of(plan, part).results]
            read = dict.fromkeys(rules.first(plan, path) for path in read)
            return {"settings": settings, "read": [path for path in read if not provenance.is_made(Path(path))]}
        stale = reasons[Path(result)] = cannot_write(lambda: state.made_with(result))
        read = state.wanted(path for part in stale for path in rules.job_of(plan, part).results)
        # what is made comes after the checks for leaks. Only this order counts: what they find changes no features and no
        # weights (`ancient` would do, but Snakemake 9.27 then forgets jobs that are stale themselves)
        checks = rules.checks(plan, frozenset(workflow.dag_settings.targets)).get(result, []) if stale else []
        return {"settings": settings, "read": read, "checks": state.wanted(checks)}

    return of


def priority(made):
    """The priority of a rule's job, a function of its wildcards."""
    return lambda wildcards: rules.priorities(plan).get(result_of(made, wildcards), 0)


def threads(made):
    """The processors of a rule's job, a function of its wildcards. On this machine it takes one where it may take more."""
    return lambda wildcards: resources.threads(plan, result_of(made, wildcards), alone=IS_FIRST and workflow.local_exec)


def needs(made, estimate):
    """What a rule's job takes of a resource, a function of its wildcards and of how often it was started."""
    return lambda wildcards, attempt: estimate(plan, result_of(made, wildcards), attempt)


def several_nodes(made):
    """What the jobs of a rule further ask a cluster for, where some of them run on several machines."""
    if not resources.is_spread(plan, made):
        return {}
    nodes = needs(made, resources.nodes)
    mpi = lambda wildcards, attempt: "srun" if nodes(wildcards, attempt) > 1 else ""  # else no step of one task
    return {"nodes": nodes, "tasks": nodes, "tasks_per_gpu": 0, "mpi": mpi}


def launcher(made):
    """What starts a job, a function of its wildcards: on a cluster perhaps on several machines."""
    return lambda wildcards: "python -m" if IS_FIRST else resources.launcher(plan, result_of(made, wildcards))


def on_cards():
    """The rules whose jobs get a graphics card: the profile takes it away where no node has one."""
    given = workflow.resource_settings.overwrite_resources
    taken = [name for name, found in given.items() if "gpu" in found and found["gpu"].value == 0]
    return frozenset(made.name for made in rules.RULES if made.gpu).difference(taken)


def group(made):
    """The group in which a cluster runs a rule's job, a function of its wildcards. A job asks what it was submitted in."""

    def of(wildcards):
        if IS_FIRST:
            return None if workflow.local_exec else resources.group(plan, result_of(made, wildcards), on_cards())
        submitted_in = workflow.group_settings.local_groupid
        return None if submitted_in == "local" else submitted_in

    return of


def load_weights():
    """Before the first job: what the jobs of this run take from the hub."""
    try:
        hub.load(plan, [result for made in reasons.values() for result in made])
    except ValueError as error:
        sys.exit(f"{error}")


def unknown(wildcards):
    """The end of a run for a target that does not exist."""
    sys.exit(f"no table or other target {wildcards.target!r}; there are: {', '.join(['all', *rules.targets(plan)])}")


def summary():
    """At the end of a run: how many files could not be read."""
    for dataset in rules.datasets(plan):
        rejected = rules.rejected(plan, dataset)
        if len(rejected):
            sys.stderr.write(f"{dataset}: {count(len(rejected), 'file')} rejected; `videomatch tables` lists why\n")
