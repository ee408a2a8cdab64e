"""The machine and the process: device, memory, threads, seeds, signals, printed output."""
