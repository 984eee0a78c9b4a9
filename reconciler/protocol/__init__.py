"""What is said on the wire. Pure: bytes in, values out; no I/O, no clock, no randomness."""
