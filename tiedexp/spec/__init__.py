"""Specs: the description of an experiment in YAML, validated and made into one immutable object.

Begin with `schema.py`, which has the models. `loading.py` reads files and overrides into them, on top of `document.py`
(YAML with locations); `explaining.py` makes sentences of pydantic's errors.
"""
