"""The agent's exceptions. `code` travels over RPC and HTTP; the controller maps it to an exit code."""

from __future__ import annotations


class AgentError(Exception):
    """Base of every error the agent raises on purpose. The message says what, with which values, and the repair."""

    code = "failure"


class IncompatibleError(AgentError):
    """A bundle, program or request does not fit this board, configuration or protocol version."""

    code = "incompatible"


class VerificationError(AgentError):
    """A digest or a self-test result is not what it must be."""

    code = "verification"


class BusyError(AgentError):
    """Somebody else holds what is asked for."""

    code = "busy"


class DeadlineError(AgentError):
    """The accelerator or a peer did not finish in time."""

    code = "timeout"


class ProgramError(AgentError):
    """A VTA program is malformed or breaks a hardware rule; names the instruction and the rule."""

    code = "program"


class ProtocolError(AgentError):
    """A peer sent what the protocol does not allow."""

    code = "protocol"


class InputError(AgentError):
    """A request's tensors or names are wrong."""

    code = "input"


class HardwareError(AgentError):
    """The board lacks a device, memory or permission that its driver needs."""

    code = "hardware"


class DegradedError(AgentError):
    """The accelerator is in a state that only programming the FPGA again ends."""

    code = "degraded"
