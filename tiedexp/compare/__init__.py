"""Runs on disk, beside each other: means with intervals, paired differences, pictures, a page. No TensorFlow."""
