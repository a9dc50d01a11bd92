"""Images in folders: which there are, how they are decoded, and the cache of what was decoded."""
