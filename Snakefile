# videomatch: from video files to tables. This file is the table of contents; each included file is one stage of
# dvc.yaml, and `params.yaml` holds every value that a person may change.
configfile: "params.yaml"


include: "workflow/rules/common.smk"


STAGES = ["data", "systems", "segments", "benchmark"]

# DVC runs `snakemake STAGE --config stage=STAGE`: then only that stage's rules exist, so Snakemake cannot touch what
# another stage made, and takes it as it lies there.
if "stage" in config:

    include: f"workflow/rules/{config['stage']}.smk"

else:

    for stage in STAGES:

        include: f"workflow/rules/{stage}.smk"

    rule all:
        default_target: True
        input:
            [getattr(rules, stage).input for stage in STAGES],


onsuccess:
    farewell()
