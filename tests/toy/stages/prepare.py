from videomatch.toy import read, write

EDITED = 0


def prepare(*, output, dataset, corpus, shards, raw, seed, options, renders):
    found = [read(folder) for folder in renders] or [raw] * shards
    for shard, value in enumerate(found):
        write(output, [EDITED // 2, value], f"videos-{shard:05d}.parquet")
    write(output, [EDITED, seed, found], "value.parquet")
