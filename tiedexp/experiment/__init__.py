"""The one place where a spec is taken apart: spec -> data, model, training, run directory.

Everything else takes flat arguments. preparation.py is what is known before anything is built, without TensorFlow;
build.py makes the parts; run.py trains; evaluate.py tests a run again.
"""
