"""How fast the layers are: against the dense convolution, the bound, and what people write by hand."""
