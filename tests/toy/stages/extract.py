from videomatch.toy import number, read, write

EDITED = 0


def extract(*, output, corpus, features, runs, shard, experts, backbones):
    seen = [read(corpus, f"videos-{shard:05d}.parquet"), [read(r) for r in runs]]
    for name, options in experts.items():
        before = [read(f / options["source"]) for f in features] if "source" in options else []
        (output / name).mkdir()
        write(output / name, number("extract", EDITED, seen, before, options))
