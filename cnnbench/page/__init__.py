"""One self-contained HTML page, of a run or of many: it opens from disk and asks no network."""
