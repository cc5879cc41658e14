"""How fast the layers are, compared with dense convolutions and with layers that people write by hand.

Begin with layers.py, which times one layer by each method; models.py times a whole model. timing.py is the stopwatch.
"""
