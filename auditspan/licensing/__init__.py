"""Export licenses: reading a register, and what of a license an event takes."""
