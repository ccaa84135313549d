# videomatch: from video files to tables. `params.yaml` holds every value of the demo; `snakemake --configfile FILE` reads
# another file instead. What each rule makes, and from what, is in src/videomatch/pipeline/rules.py.
include: "workflow/rules/common.smk"


# A graphics card is used where there is one, by one job at a time.
GPU = int(any(Path("/dev").glob("nvidia[0-9]*")))

# DVC runs `snakemake PART --config stage=PART`: then only that part's rules exist, so Snakemake cannot touch the results
# of other parts, and takes them as they are.
parts = [config["stage"]] if "stage" in config else rules.PARTS
results = rules.results(plan)


rule all:
    default_target: True
    input:
        [results[part] for part in parts],


for part in parts:

    rule:
        name:
            part
        input:
            results[part],


for made in rules.RULES:
    if made.part in parts:

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
            threads: threads(made)
            resources:
                mem_mb=made.mem_mb,
                gpu=GPU * made.gpu,
            params:
                stage=made.name,
            shell:
                "python -m videomatch {params.stage} --settings {input.settings} --output {output} --log {log}"
                " --threads {threads}"


onsuccess:
    summary()
