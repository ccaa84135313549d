from videomatch.toy import number, read, write

EDITED = 0


def search(*, output, corpus, embeddings, split, kind, top, members, features, rescore=None):
    for member, fold in members.items():
        (output / member).mkdir()
        seen = [read(corpus, "value.parquet"), read(embeddings / member)]
        write(output / member, number("search", EDITED, seen, split, kind, top, fold, rescore))
