from videomatch.toy import number, read, write

EDITED = 0


def illustrate(
    *, output, corpus, rankings, title, top, system, member, judged, judged_names, tables, table_charts, runs, run_names
):
    seen = [read(corpus, "value.parquet"), read(rankings / member)]
    seen += [read(folder / name[1]) for folder, name in zip(judged, judged_names, strict=True)]
    seen += [read(folder, "summary.json") for folder in tables] + [read(folder, "log.csv") for folder in runs]
    write(output, number("illustrate", EDITED, seen, title, top, system, table_charts, run_names))
