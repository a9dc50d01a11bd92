"""One module per family. A model is a function `(input_shape, outputs, …) -> keras.Model`.

It takes raw inputs (uint8 pixels, unscaled columns) and ends in raw outputs: the run adds the softmax
or sigmoid that the task asks for, so that a family serves every task.
"""
