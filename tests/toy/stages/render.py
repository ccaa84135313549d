from videomatch.toy import number, write

EDITED = 0


def render(*, output, shard, shards, seed, options):
    write(output, number("render", EDITED, shard, shards, seed, options))
