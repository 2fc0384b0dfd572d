"""Limits of containers: cores, memory, disk and GPUs, enforced by the kernel or by a watchdog."""
