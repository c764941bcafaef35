"""Compiles integer layers to VTA programs. Pure functions of layers and a configuration; nothing here runs anything."""
