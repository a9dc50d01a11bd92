"""The pictures of runs, as matplotlib figures that pyplot does not know."""
