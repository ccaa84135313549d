from videomatch.toy import number, read, write

EDITED = 0


def extract(*, output, corpus, features, runs, shard, experts, backbones):
    videos = read(corpus, f"videos-{shard:05d}.parquet")
    write(
        output,
        number(
            "extract",
            EDITED,
            videos,
            [read(f) for f in features],
            [read(r) for r in runs],
            experts,
        ),
    )
