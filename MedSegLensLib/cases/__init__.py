"""Cases: reading, checking, conforming to a network's grid and back; phantoms; writing. No torch in this room."""
