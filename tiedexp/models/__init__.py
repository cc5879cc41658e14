"""The model families: from flat keyword arguments to a keras.Model, and what a model costs.

Begin with families.py, the table of families. plan.py lists a model's convolutions without Keras; cost.py counts from
that list, and plain.py and resnet.py build from it.
"""
