"""The only place where a spec is taken apart: everything else takes flat arguments.

preparation.py is what is known without TensorFlow; assembly.py builds the parts; run.py trains, from the start or from
a checkpoint; evaluate.py tests a run again, reproduce.py repeats it and extend.py trains it for longer. Begin with run.py.
"""
