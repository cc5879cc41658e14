"""What TensorBoard is shown of runs and of sweeps, in a folder of links and event files, never in the runs."""
