"""Training: optimizers, the loop, checkpoints and devices."""
