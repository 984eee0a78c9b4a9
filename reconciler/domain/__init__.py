"""What should happen. Pure: values in, values out; `now` is an argument; no I/O, no clock, no randomness."""
