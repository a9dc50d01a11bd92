"""The command line: its verbs, its help, and the Hydra program."""
