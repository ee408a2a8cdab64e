"""The machine and the process: memory, device, threads, signals, what is printed."""
