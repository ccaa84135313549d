# From media to features: render and prepare the data sets, train the backbones that are trained here, extract, select key frames.
from videomatch.pipeline.provenance import MANIFEST

RENDER = f"{plan.root}/media/{{dataset}}/{{shard}}/{MANIFEST}"
CORPUS = f"{plan.root}/corpora/{{dataset}}/{MANIFEST}"
FEATURES = f"{plan.root}/features/{{dataset}}/{{passage}}/{{shard}}/{MANIFEST}"
KEY_FRAMES = f"{plan.root}/features/{{dataset}}/{{expert}}/{{shard}}/{MANIFEST}"
SELECTED = sorted({e for d in plan.datasets for e in plan.key_frame_experts(d)})
BACKBONE = f"{plan.root}/backbones/{{system}}/{{member}}/{MANIFEST}"


rule data:
    input:
        plan.data_results(),


rule render:
    input:
        unpack(job("render", RENDER, lambda w: plan.render_settings(w.dataset, w.shard))),
    output:
        RENDER,
    log:
        f"logs/{plan.params['scale']}/media/{{dataset}}/{{shard}}.log",
    resources:
        mem_mb=1000,
    params:
        stage="render",
    shell:
        STAGE


rule prepare:
    input:
        unpack(
            job(
                "prepare",
                CORPUS,
                lambda w: plan.prepare_settings(w.dataset),
                modules=lambda w: [f"corpora.{plan.dataset(w.dataset)['corpus']}"],
                files=lambda w: plan.raw_files(w.dataset),
                renders=lambda w: plan.renders(w.dataset),
            )
        ),
    output:
        CORPUS,
    log:
        f"logs/{plan.params['scale']}/corpora/{{dataset}}.log",
    threads: 2
    resources:
        mem_mb=2000,
    params:
        stage="prepare",
    shell:
        STAGE


rule train_backbone:
    input:
        unpack(
            job(
                "train",
                BACKBONE,
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
        BACKBONE,
    log:
        f"logs/{plan.params['scale']}/backbones/{{system}}/{{member}}.log",
    wildcard_constraints:
        system="|".join(plan.trained_backbones) or "none",
    threads: lambda w: plan.train_threads(w.system)
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        stage="train",
    shell:
        STAGE


rule extract:
    input:
        unpack(
            job(
                "extract",
                FEATURES,
                lambda w: plan.extract_settings(w.dataset, w.passage, w.shard),
                modules=lambda w: plan.extract_modules(w.dataset, w.passage),
                reads=lambda w: plan.extract_reads(w.dataset, w.passage, w.shard),
                files=lambda w: plan.pass_files(w.dataset, w.passage),
                corpus=CORPUS,
                features=lambda w: plan.source_features(w.dataset, w.passage, w.shard),
                runs=lambda w: plan.pass_runs(w.dataset, w.passage),
            )
        ),
    output:
        FEATURES,
    log:
        f"logs/{plan.params['scale']}/features/{{dataset}}/{{passage}}/{{shard}}.log",
    wildcard_constraints:
        passage=f"(?!(?:{'|'.join(SELECTED)})/)\\w+" if SELECTED else r"\w+",
    threads: 1
    resources:
        mem_mb=4000,
        gpu=GPU,
    params:
        stage="extract",
    shell:
        STAGE


rule select_key_frames:
    input:
        unpack(
            job(
                "select_key_frames",
                KEY_FRAMES,
                lambda w: plan.key_frames_settings(w.expert),
                modules=lambda w: plan.key_frames_modules(w.expert),
                reads=lambda w: {"features": [f"{plan.experts[w.expert]['key_frames_of']}/*"]},
                features=lambda w: plan.key_frames_features(w.dataset, w.expert, w.shard),
                run=lambda w: plan.key_frames_run(w.expert),
            )
        ),
    output:
        KEY_FRAMES,
    log:
        f"logs/{plan.params['scale']}/features/{{dataset}}/{{expert}}/{{shard}}.log",
    wildcard_constraints:
        expert="|".join(SELECTED) or "none",
    resources:
        mem_mb=1000,
    params:
        stage="select_key_frames",
    shell:
        STAGE
