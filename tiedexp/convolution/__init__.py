"""The tied convolution: how to compute it, and the computation.

Begin with factoring.py, which splits a pattern into sums and taps. costs.py and choosing.py estimate which method is
the fastest; these three need NumPy alone. tied.py is the convolution with its gradients, by the methods of
expanded.py and native.py; measuring.py times them where the estimate is close. cpp/ is the compiled code and its build.
"""
