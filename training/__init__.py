"""One class in training: the loop around GLASS.train_step, and the parts that a step uses."""
