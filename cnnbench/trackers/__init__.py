"""Programs that people already use to look at runs; each is told what history.csv and metrics.json say."""
