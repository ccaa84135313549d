from videomatch.toy import number, read, write

EDITED = 0


def evaluate(*, output, corpus, rankings, metrics, members):
    for member in members:
        (output / member).mkdir()
        values = {name: number("evaluate", EDITED, read(rankings / member), name) for name in metrics}
        write(output / member, {"metrics": values, "counts": {"pairs": 1}}, "metrics.json")
