"""The tied convolution in C++, compiled on the user's machine the first time it is needed.

TensorFlow's own operations can pool, convolve and add, but each writes its result to memory and reads it back, which
costs as much as the multiplications that tying saves. Here the sum images of a few rows at a time are made and read
while they are in the processor's cache. Groups of channels are convolved one after the other, and groups of one channel
with the vectors across them. Where there is no C++ compiler, everything works without it.
"""
