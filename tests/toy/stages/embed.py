from videomatch.toy import number, read, write

EDITED = 0


def embed(*, output, corpus, features, run, system, seed):
    write(
        output,
        number(
            "embed",
            EDITED,
            read(corpus, "value.parquet"),
            [read(f / system["embeddings"]["features"]) for f in features],
            [read(r) for r in run],
            system,
        ),
    )
