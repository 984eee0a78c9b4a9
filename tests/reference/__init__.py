"""A naive reading of the rules of an upgrade, against which the engine is compared; notes.md says how."""
