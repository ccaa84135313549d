# videomatch: from video files to tables. `params.yaml` holds every value of the demo; `snakemake --configfile FILE` reads
# another file instead. What each rule makes, and from what, is in src/videomatch/pipeline/rules.py.
include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        to_make(rules.needed(plan)) if IS_FIRST else [],


# `snakemake similarity_overview` makes that table. DVC runs a stage by its name, after those that it reads.
for name, stage in rules.stages(plan).items() if IS_FIRST else ():

    rule:
        name:
            name
        input:
            to_make(stage.results),


for made in rules.RULES:

    rule:
        name:
            made.name
        input:
            unpack(inputs(made)),
        output:
            plan.result(made.output),
        log:
            f"logs/{plan.params['scale']}/{made.output}.log",
        wildcard_constraints:
            **made.constraints(plan),
        priority: priority(made)
        group:
            group(made)
        threads: threads(made)
        resources:
            mem_mb=needs(made, resources.mem_mb),
            runtime=needs(made, resources.runtime),
            gpu=needs(made, resources.cards),
            **several_nodes(made),
        params:
            stage=made.name,
            launcher=launcher(made),
        shell:
            "{params.launcher} videomatch {params.stage} --settings {input.settings} --output {output} --log {log}"
            " --threads {threads} --cards {resources.gpu}"


rule unknown:
    input:
        unknown,
    output:
        "{target}",
    wildcard_constraints:
        target=r"[\w-]+",


onstart:
    load_weights()
    if not workflow.local_exec:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no job is left at work


onerror:
    seen.cancel()


onsuccess:
    summary()
