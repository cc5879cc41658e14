"""Showing runs and sweeps in TensorBoard, from a folder of links and event files; nothing is written into the runs.

Begin with sweep_board.py, which fills the folder for a sweep; links.py does so for plain runs. server.py starts
TensorBoard, and addresses.py makes the address that is opened.
"""
