"""Random changes of training images as graph operations, cheap beside the training itself."""
