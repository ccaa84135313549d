from videomatch.toy import number, read, write

EDITED = 0


def embed(*, output, corpus, features, run, members, system, seed, queries, splits=None):
    for n, member in enumerate(members):
        (output / member).mkdir()
        write(
            output / member,
            number(
                "embed",
                EDITED,
                read(corpus, "value.parquet"),
                [
                    read(f / (system.get("embeddings", {}).get("features") or system["examples"]["expert"]))
                    for f in features
                ],
                [read(r) for r in run[n : n + 1]],
                system,
                queries,
            ),
        )
