from videomatch.toy import number, read, write

EDITED = 0


def combine(*, output, embeddings, members, dim=None):
    for name, parts in members.items():
        (output / name).mkdir()
        write(output / name, number("combine", EDITED, [[read(embeddings[n] / m), w] for n, m, w in parts], dim))
