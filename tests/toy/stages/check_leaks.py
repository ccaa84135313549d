from videomatch.toy import number, read, write

EDITED = 0


def check_leaks(*, output, corpora, table, ids, learned, cells):
    seen = [read(corpus, "value.parquet") for corpus in corpora]
    write(output, {"cells": [], "value": number("check_leaks", EDITED, seen, table, ids, learned, cells)}, "leaks.json")
