"""Our Triton kernels, each in one file with its launcher and its reference in torch.

They run asynchronously on torch's current device and stream. All are experimental until a GPU shows
that they are faster (`python -m benchmarks.gpu`).
"""
