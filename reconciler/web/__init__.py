"""HTTP: downloads for devices, health and metrics for operators. Decides nothing about upgrades."""
