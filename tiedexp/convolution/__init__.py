"""The tied convolution: planning how to compute it, and computing it.

Begin with factoring.py, which splits a pattern into sums and taps. costs.py and choosing.py estimate which method is
fastest; these three need only NumPy. tied.py is the convolution with its gradients, by the methods of expanded.py and
native.py; measuring.py times the methods if the estimates are close. cpp/ is the compiled code and its build.
"""
