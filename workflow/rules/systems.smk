# From features to embeddings: train, embed, combine.
from videomatch.pipeline.provenance import MANIFEST

RUN = f"{plan.root}/runs/{{system}}/{{member}}/{MANIFEST}"
EMBEDDINGS = f"{plan.root}/embeddings/{{dataset}}/{{system}}/{MANIFEST}"
COMBINED = [s for s in plan.systems if "combine" in plan.systems[s]]


rule systems:
    input:
        plan.systems_results(),


rule train:
    input:
        unpack(
            job(
                "train",
                RUN,
                lambda w: plan.train_settings(w.system, w.member),
                modules=lambda w: plan.train_modules(w.system),
                files=lambda w: plan.text_files(w.system),
                reads=lambda w: plan.system_reads(w.system),
                corpus=lambda w: plan.train_corpus(w.system),
                features=lambda w: plan.train_features(w.system),
                init=lambda w: plan.train_init(w.system, w.member),
                backbones=lambda w: plan.train_backbones(w.system),
            )
        ),
    output:
        RUN,
    log:
        f"logs/{plan.params['scale']}/runs/{{system}}/{{member}}.log",
    threads: lambda w: plan.train_threads(w.system)
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        stage="train",
    shell:
        STAGE


rule embed:
    input:
        unpack(
            job(
                "embed",
                EMBEDDINGS,
                lambda w: plan.embed_settings(w.dataset, w.system),
                modules=lambda w: plan.embed_modules(w.system),
                files=lambda w: plan.text_files(w.system),
                reads=lambda w: plan.system_reads(w.system),
                corpus=lambda w: plan.corpus(w.dataset),
                features=lambda w: plan.embed_features(w.dataset, w.system),
                run=lambda w: plan.embed_runs(w.system),
            )
        ),
    output:
        EMBEDDINGS,
    log:
        f"logs/{plan.params['scale']}/embeddings/{{dataset}}/{{system}}.log",
    wildcard_constraints:
        system="|".join(s for s in plan.systems if {"model", "embeddings"} & plan.systems[s].keys()) or "none",
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        stage="embed",
    shell:
        STAGE


rule combine:
    input:
        unpack(
            job(
                "combine",
                EMBEDDINGS,
                lambda w: plan.combine_settings(w.system),
                embeddings=lambda w: plan.combined(w.dataset, w.system),
            )
        ),
    output:
        EMBEDDINGS,
    log:
        f"logs/{plan.params['scale']}/embeddings/{{dataset}}/{{system}}.log",
    wildcard_constraints:
        system="|".join(COMBINED) or "none",
    resources:
        mem_mb=4000,
    params:
        stage="combine",
    shell:
        STAGE
