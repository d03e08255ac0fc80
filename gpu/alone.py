"""What captures a CUDA graph, and what breaks the captures of other threads, take turns."""

from threading import Lock

ALONE = Lock()
"""Held in a capture, and while a version is closed. Waiting for a whole GPU, of which a stream is
being captured, fails and breaks the capture, whatever its mode; and torch takes one in a process.
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#prohibited-and-unhandled-operations"""
