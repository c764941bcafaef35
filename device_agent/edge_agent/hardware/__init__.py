"""What a Zynq driver is made of: registers, DMA memory, the placing of programs in it, and the run protocol."""
