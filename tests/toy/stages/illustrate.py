from videomatch.toy import number, read, write

EDITED = 0


def illustrate(*, output, corpus, rankings, title, top, system, member):
    seen = [read(corpus, "value.parquet"), read(rankings / member)]
    write(output, number("illustrate", EDITED, seen, title, top, system))
