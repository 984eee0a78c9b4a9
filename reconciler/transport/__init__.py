"""Devices: the port (`base`), our endpoint for them, a broker through paho, and memory for tests."""
