"""The only place where a spec is taken apart: everything else takes flat arguments.

preparation.py is what is known without TensorFlow; assembly.py builds the parts; run.py trains, from scratch or from a
checkpoint; evaluate.py, reproduce.py and extend.py work on runs that are there. Begin with run.py.
"""
