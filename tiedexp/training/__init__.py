"""Training a Keras model: optimizers and schedules, the loop, checkpoints and devices.

It knows neither specs nor run directories; `tiedexp.experiment` brings them together. Begin with trainer.py.
"""
