"""Devices and processes: the mesh, what is split over it, and who is still there."""
