from videomatch.toy import number, read, write

EDITED = 0


def train(*, output, corpus, features, init, system, seed, member, scratch, backbones, scores, fold=None):
    state = scratch / "state.json"
    epoch, value = read(scratch, "state.json") if state.exists() else (0, number("train", EDITED, seed, fold))
    while epoch < system["training"]["epochs"]:
        value = number(
            value,
            read(corpus, "value.parquet"),
            [read(f / system["examples"]["expert"]) for f in features],
            [read(i) for i in [*init, *backbones, *scores]],
            system,
        )
        epoch += 1
        write(scratch, [epoch, value], "new.json")
        (scratch / "new.json").rename(state)
    write(output, value)
    write(output, value, "log.csv")
