"""The native API: JSON in and out, errors as problem+json (RFC 9457), progress as events."""

from gateway.doors.native.routes import NativeDoor, NativeOptions

__all__ = ["NativeDoor", "NativeOptions"]
