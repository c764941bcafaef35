"""A Zynq with VTA in software, at the level of registers and memory: what the driver in devices/zynq.py is tested on.

It has the registers, the physical memory and the kernel's files that a board has, fetches the instructions that the
driver has put into that memory, and executes them by the rules of the strict simulator.
"""
