# From features to same-source segments: shortlist, tune, align.
from videomatch.pipeline.provenance import MANIFEST

SHORTLIST = f"{plan.root}/shortlists/{{dataset}}/{{split}}/{{expert}}/{MANIFEST}"
TUNED = f"{plan.root}/tuned/{{dataset}}/{{system}}/{{member}}/{MANIFEST}"
SEGMENTS = f"{plan.root}/segments/{{dataset}}/{{split}}/{{system}}/{{member}}/{MANIFEST}"


rule segments:
    input:
        plan.segments_results(),


rule shortlist:
    input:
        unpack(
            job(
                "shortlist",
                SHORTLIST,
                lambda w: plan.shortlist_settings(w.dataset, w.split, w.expert),
                reads=lambda w: {"corpus": ["splits.parquet"], "features": [f"{w.expert}/*"]},
                corpus=lambda w: plan.corpus(w.dataset),
                features=lambda w: plan.features(w.dataset, w.expert),
            )
        ),
    output:
        SHORTLIST,
    log:
        f"logs/{plan.params['scale']}/shortlists/{{dataset}}/{{split}}/{{expert}}.log",
    resources:
        mem_mb=4000,
    params:
        stage="shortlist",
    shell:
        STAGE


rule tune:
    input:
        unpack(
            job(
                "tune",
                TUNED,
                lambda w: plan.tune_settings(w.system),
                modules=lambda w: plan.align_modules(w.system),
                reads=lambda w: plan.align_reads(w.system),
                corpus=lambda w: plan.corpus(w.dataset),
                features=lambda w: plan.align_features(w.dataset, w.system),
                run=lambda w: plan.align_run(w.system, w.member),
            )
        ),
    output:
        TUNED,
    log:
        f"logs/{plan.params['scale']}/tuned/{{dataset}}/{{system}}/{{member}}.log",
    resources:
        mem_mb=2000,
    params:
        stage="tune",
    shell:
        STAGE


rule align:
    input:
        unpack(
            job(
                "align",
                SEGMENTS,
                lambda w: plan.align_settings(w.split, w.system),
                modules=lambda w: plan.align_modules(w.system),
                reads=lambda w: plan.align_reads(w.system),
                corpus=lambda w: plan.corpus(w.dataset),
                features=lambda w: plan.align_features(w.dataset, w.system),
                run=lambda w: plan.align_run(w.system, w.member),
                tuned=lambda w: plan.align_tuned(w.dataset, w.system, w.member),
                rankings=lambda w: plan.align_shortlist(w.dataset, w.split, w.system),
            )
        ),
    output:
        SEGMENTS,
    log:
        f"logs/{plan.params['scale']}/segments/{{dataset}}/{{split}}/{{system}}/{{member}}.log",
    resources:
        mem_mb=2000,
    params:
        stage="align",
    shell:
        STAGE
