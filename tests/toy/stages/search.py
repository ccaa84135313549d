from videomatch.toy import number, read, write

EDITED = 0


def search(*, output, corpus, embeddings, split, kind, top, members, features, rescore=None, frame_embeddings=None):
    for member, fold in members.items():
        (output / member).mkdir()
        seen = [read(corpus, "value.parquet"), read(embeddings / member)]
        if frame_embeddings:
            seen.append(read(frame_embeddings / "all"))
        write(output / member, number("search", EDITED, seen, split, kind, top, fold, rescore))
