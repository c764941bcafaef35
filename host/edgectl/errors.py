"""The controller's exceptions and their exit codes (design: 0 ok, 1 failure, 2 usage, 3 unreachable, ...)."""

from __future__ import annotations


class EdgectlError(Exception):
    """Base of every error the controller raises on purpose: what is wrong, both values, and the repair."""

    exit_code = 1


class UsageError(EdgectlError):
    """The command line or an argument is wrong."""

    exit_code = 2


class UnreachableError(EdgectlError):
    """A board, agent or download source does not answer."""

    exit_code = 3


class IncompatibleError(EdgectlError):
    """Model, bundle, board, configuration or protocol do not fit together."""

    exit_code = 4


class AuthenticationError(IncompatibleError):
    """A board refuses to log somebody in."""


class VerificationError(EdgectlError):
    """A result differs from what it must equal (self-test, digest, equivalence)."""

    exit_code = 5


class BusyError(EdgectlError):
    """Somebody else holds the board, or a port is taken."""

    exit_code = 6


class DeadlineError(EdgectlError):
    """An operation did not finish in time."""

    exit_code = 124


class ModelError(EdgectlError):
    """A model file is missing, damaged or uses what is not supported."""


class UnknownModelError(ModelError):
    """A model's name is not known: wrong usage, not a damaged file."""

    exit_code = UsageError.exit_code


class CompileError(EdgectlError):
    """A model cannot be compiled for the board."""
