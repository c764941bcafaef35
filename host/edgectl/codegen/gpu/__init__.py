"""GPU code generation and execution: the CPU's expressions, simply scheduled, launched through NVIDIA's driver."""
