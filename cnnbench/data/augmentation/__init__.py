"""Random changes of training images, in graph operations that cost little beside the training itself."""
