"""`flywheel doctor`: every connection, version and permission that the settings rely on, checked by using it."""

from services.doctor.check import Check
from services.doctor.examine import examine

__all__ = ["Check", "examine"]
