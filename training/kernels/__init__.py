"""Triton kernels: what replaces chains of PyTorch operations on CUDA. Only these files import Triton."""
