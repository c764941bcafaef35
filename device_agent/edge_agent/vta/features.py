"""What some boards do beyond the portable rules. A program declares what it needs, a board profile what it has."""

from __future__ import annotations

ALU_MUL = "alu_mul"
"""The ALU multiplies (not the Xilinx build)."""

LOAD_ACC_8BIT = "load_acc_8bit"
"""LOAD can widen int8 to ACC (not the Xilinx build)."""

ACC_LOAD_PADDING = "acc_load_padding"
"""A LOAD of ACC can pad (Xilinx builds since December 2020; no published bitstream)."""

PROGRAM_ACROSS_LAYERS = "program_across_layers"
"""What a program stores it may load again in the same run, once tokens order the two."""

FEATURES = frozenset({ALU_MUL, LOAD_ACC_8BIT, ACC_LOAD_PADDING, PROGRAM_ACROSS_LAYERS})
