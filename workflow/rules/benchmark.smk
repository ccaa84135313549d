# From embeddings to tables, pages and submissions: search, evaluate, tabulate, illustrate, submit.
from videomatch.pipeline.provenance import MANIFEST

CELL = "{dataset}/{split}/{system}"
RANKINGS = f"{plan.root}/rankings/{CELL}/{MANIFEST}"
METRICS = f"{plan.root}/metrics/{CELL}/{MANIFEST}"
TABLE = f"{plan.root}/tables/{{table}}/{MANIFEST}"
PAGE = f"{plan.root}/pages/{{page}}/{MANIFEST}"
SUBMISSION = f"{plan.root}/submissions/{{submission}}/{MANIFEST}"


rule benchmark:
    input:
        plan.benchmark_results(),


rule search:
    input:
        unpack(
            job(
                "search",
                RANKINGS,
                lambda w: plan.search_settings(w.dataset, w.split, w.system),
                reads=lambda w: plan.search_reads(w.system),
                corpus=lambda w: plan.corpus(w.dataset),
                embeddings=lambda w: [plan.embedding(w.dataset, plan.base(w.system))],
                features=lambda w: plan.rescore_features(w.dataset, w.system),
                frame_embeddings=lambda w: plan.rescore_texts(w.dataset, w.system),
            )
        ),
    output:
        RANKINGS,
    log:
        f"logs/{plan.params['scale']}/rankings/{CELL}.log",
    resources:
        mem_mb=4000,
    params:
        stage="search",
    shell:
        STAGE


rule evaluate:
    input:
        unpack(
            job(
                "evaluate",
                METRICS,
                lambda w: plan.evaluate_settings(w.dataset, w.split, w.system),
                reads=lambda w: {"corpus": ["*.parquet"]},
                corpus=lambda w: plan.corpus(w.dataset),
                rankings=lambda w: None if plan.localises(w.system) else plan.ranking(w.dataset, w.split, w.system),
                segments=lambda w: plan.evaluated_segments(w.dataset, w.split, w.system),
            )
        ),
    output:
        METRICS,
    log:
        f"logs/{plan.params['scale']}/metrics/{CELL}.log",
    resources:
        mem_mb=1000,
    params:
        stage="evaluate",
    shell:
        STAGE


rule tabulate:
    input:
        unpack(
            job(
                "tabulate",
                TABLE,
                lambda w: plan.table_settings(w.table),
                metrics=lambda w: plan.table_inputs(w.table),
            )
        ),
    output:
        TABLE,
    log:
        f"logs/{plan.params['scale']}/tables/{{table}}.log",
    resources:
        mem_mb=500,
    params:
        stage="tabulate",
    shell:
        STAGE


rule illustrate:
    input:
        unpack(
            job(
                "illustrate",
                PAGE,
                lambda w: plan.page_settings(w.page),
                reads=lambda w: {"corpus": ["*.parquet"], "tables": ["table.md", "table.csv"], "runs": ["log.csv"]},
                corpus=lambda w: plan.corpus(plan.params["pages"][w.page]["dataset"]),
                rankings=lambda w: plan.page_shows(w.page).get("rankings"),
                segments=lambda w: plan.page_shows(w.page).get("segments"),
                features=lambda w: plan.page_shows(w.page).get("features"),
                judged=lambda w: plan.page_judged(w.page),
                tables=lambda w: plan.page_tables(w.page),
                runs=lambda w: [plan.run(*run) for run in plan.page_curves(w.page)],
            )
        ),
    output:
        PAGE,
    log:
        f"logs/{plan.params['scale']}/pages/{{page}}.log",
    resources:
        mem_mb=1000,
    params:
        stage="illustrate",
    shell:
        STAGE


rule submit:
    input:
        unpack(
            job(
                "submit",
                SUBMISSION,
                lambda w: plan.submit_settings(w.submission),
                reads=lambda w: {"corpus": ["*.parquet"]},
                corpus=lambda w: plan.corpus(plan.params["submissions"][w.submission]["dataset"]),
                embeddings=lambda w: plan.submitted(w.submission).get("embeddings"),
                rankings=lambda w: plan.submitted(w.submission).get("rankings"),
                segments=lambda w: plan.submitted(w.submission).get("segments"),
                features=lambda w: plan.submitted(w.submission).get("features"),
            )
        ),
    output:
        SUBMISSION,
    log:
        f"logs/{plan.params['scale']}/submissions/{{submission}}.log",
    resources:
        mem_mb=2000,
    params:
        stage="submit",
    shell:
        STAGE
