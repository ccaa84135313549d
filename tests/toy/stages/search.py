from videomatch.toy import number, read, write

EDITED = 0


def search(*, output, corpus, embeddings, split, kind, top):
    write(
        output, number("search", EDITED, read(corpus, "value.parquet"), [read(e) for e in embeddings], split, kind, top)
    )
