"""One module per source, each with functions that return a `Dataset`; heavy imports stay inside them."""
