from videomatch.toy import read, write

EDITED = 0


def prepare(*, output, dataset, corpus, shards, raw, seed, options, renders):
    for shard, folder in enumerate(renders):
        write(output, [EDITED // 2, read(folder)], f"videos-{shard:05d}.parquet")
    write(output, [EDITED, seed, [read(folder) for folder in renders]], "value.parquet")
