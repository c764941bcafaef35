"""Bitstreams: reading them, and programming the FPGA with them."""
