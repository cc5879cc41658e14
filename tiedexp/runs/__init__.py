"""A run on disk, and what TensorBoard reads of it."""
