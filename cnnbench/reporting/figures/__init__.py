"""The pictures of a run folder, as matplotlib figures that nobody else holds."""
