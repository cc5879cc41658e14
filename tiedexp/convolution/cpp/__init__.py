"""The tied convolution in C++, compiled on the user's machine the first time it is needed; it needs a compiler.

Begin with compiler.py, which finds a compiler and builds the library, and convolution.h, which computes: it makes the
sums of a few rows at a time and reads them while they are in the processor's cache. TensorFlow's own operations write
each result to memory and read it back, which costs as much as the multiplications that tying saves.
"""
