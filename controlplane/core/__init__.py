"""The pure part of the control plane: validation, rendering and differences."""
