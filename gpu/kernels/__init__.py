"""Our Triton kernels: each with its launcher, its reference in torch and its shapes in one file.

They run on torch's current device and stream, and wait for nothing. All are experimental until a
GPU has measured that they win (`python -m benchmarks.gpu`).
"""
