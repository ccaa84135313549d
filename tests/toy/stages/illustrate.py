from videomatch.toy import number, read, write

EDITED = 0


def illustrate(*, output, corpus, rankings, title, top, system):
    write(output, number("illustrate", EDITED, read(corpus, "value.parquet"), read(rankings), title, top, system))
