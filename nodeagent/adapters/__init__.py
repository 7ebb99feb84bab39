"""One effect on the outside world a module, and no decisions."""
