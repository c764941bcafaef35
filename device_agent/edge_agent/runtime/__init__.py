"""Executes a bundle's plan: kernels through ctypes, VTA programs through the accelerator."""
